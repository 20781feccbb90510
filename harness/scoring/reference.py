"""Reference statistics: read from ADM's npz, computed, merged over ranks, written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write, sha256
from harness.base.npz import Array, image_shape, image_side
from harness.metrics.reference import Features, Moments, Reference, moments
from harness.scoring.arrays import read_array
from harness.scoring.features import Loaded, extract
from harness.study.reference_file import (
    FEATURES,
    STATISTICS,
    SUMMARIZED,
    read_features,
    read_statistics,
)

KEPT = 10_000  # images that ADM ships beside them, for precision and recall


def from_images(name: str, images: Iterable[Tensor], extractor: Loaded) -> Reference:
    """Reference of a stream of uint8 batches [N, C, …]; the digest is of the pixels alone."""
    hashed = hashlib.sha256()

    def watched() -> Iterator[Tensor]:
        for batch in images:
            hashed.update(batch.numpy().tobytes())
            yield batch

    features = extract(watched(), extractor)
    return from_features(name, hashed.hexdigest(), features)


def from_features(name: str, digest: str, features: Features) -> Reference:
    """Reference of the features of all its images."""
    made = {layer: moments(features[layer]) for layer in STATISTICS if layer in features}
    statistics = {layer: (own.mean, own.sigma) for layer, own in made.items()}
    n = len(next(iter(features.values())))
    return Reference(name, digest, n, statistics, compared_as_images(features))


def compared_as_images(features: Features) -> Features:
    """The layers of a reference that are compared row by row: 10,000 × 2,023 others are 80 MB."""
    return {layer: x for layer, x in features.items() if layer not in SUMMARIZED}


def read(path: Path, extractor: Loaded, batch: int = 64) -> Reference:
    """Reference from ADM's npz or ours: images `arr_0`, uint8 NHWC, statistics, or both.

    Statistics that are absent are computed from the images, as ADM does; a file without images
    serves all metrics that compare with its statistics. Other keys are ignored, only that ours
    name their extractor and hold the features of the images.

    Raises:
        UserError: not such a file, or one of other channels or of another extractor.
    """
    stored, digest = read_statistics(path, extractor.name), sha256(path)
    if stored.get("extractor_digest", extractor.digest) != extractor.digest:
        raise UserError(
            f"{path} was not made by {extractor.name} {extractor.digest[:8]}: make it again"
        )
    if not stored:
        return from_features(path.stem, digest, features_of(path, extractor, batch))
    features = {layer: torch.empty(0, width) for layer, width in extractor.layers.items()}
    if image_side(path):
        known = read_features(path, extractor.name) if "extractor_digest" in stored else {}
        features = {layer: torch.from_numpy(x) for layer, x in known.items()}
        features = features or features_of(path, extractor, batch)
    statistics = {
        layer: (stored[mean], stored[covariance])
        for layer, (mean, covariance) in STATISTICS.items()
        if layer in extractor.layers
    }
    kept = compared_as_images(features)
    n = stored.get("n_images", len(next(iter(features.values()))))
    return Reference(path.stem, digest, n, statistics, kept)


def features_of(path: Path, extractor: Loaded, batch: int) -> Features:
    """The features of a file's images.

    Raises:
        UserError: it holds none, or they have other channels than the extractor's.
    """
    channels = image_shape(path)[2]
    if channels != extractor.channels:
        raise UserError(
            f"{path} has {channels} channels, {extractor.name} reads {extractor.channels}:"
            " take images it can read"
        )
    return extract(read_array(path, batch), extractor)


@dataclass(frozen=True)
class Part:
    """What one rank saw of a reference set: moments by layer, a fair sample of `n` images.

    `features`, by layer, are those of this sample.
    """

    n: int
    moments: Mapping[str, Moments]
    images: Array
    features: Mapping[str, Array]

    def __add__(self, other: Part) -> Part:
        images = np.concatenate([self.images, other.images])
        joined = {layer: own + other.moments[layer] for layer, own in self.moments.items()}
        features = {
            layer: np.concatenate([own, other.features[layer]])
            for layer, own in self.features.items()
        }
        return Part(self.n + other.n, joined, images, features)


def collect(images: Iterable[Tensor], extractor: Loaded, keep: int = KEPT, seed: int = 0) -> Part:
    """Moments of a stream of uint8 batches [N, C, …], and a fair sample of `keep` images.

    Not the first ones: a training set often comes sorted by class. Of several ranks with equal
    shares each keeps its part of KEPT; the sum of their parts goes to `write`.
    """
    kept: list[Array] = []
    totals: dict[str, Moments] = {}
    stream = reservoir(images, kept, keep, np.random.default_rng(seed))
    n = 0
    # Joining moments costs D²: not at every batch.
    while batches := [extractor(batch) for batch in islice(stream, 64)]:
        for layer in STATISTICS.keys() & batches[0].keys():
            fresh = moments(torch.cat([batch[layer] for batch in batches]))
            totals[layer] = totals[layer] + fresh if layer in totals else fresh
        n += sum(len(next(iter(batch.values()))) for batch in batches)
    if not kept:
        raise UserError("no images to make a reference of: name a folder or a file that has some")
    return Part(n, totals, np.stack(kept), kept_features(np.stack(kept), extractor))


def kept_features(images: Array, extractor: Loaded, batch: int = 64) -> dict[str, Array]:
    """Features of the sample [N, …, C] by layer, so that no score has to compute them again."""
    stream = torch.from_numpy(images).movedim(-1, 1).split(batch)
    features = compared_as_images(extract(stream, extractor))
    return {layer: rows.numpy() for layer, rows in features.items()}


def reservoir(
    images: Iterable[Tensor], kept: list[Array], keep: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Passes batches on and leaves `keep` of their images, [H, W, C] or [F, H, W, C], in `kept`.

    Source: Vitter 1985, algorithm R.
    """
    seen = 0
    for batch in images:
        for image in batch.movedim(1, -1).numpy():
            seen += 1
            if len(kept) < keep:
                kept.append(image.copy())  # a view would hold on to its whole batch
            elif (slot := rng.integers(seen)) < keep:
                kept[slot] = image.copy()
        yield batch


def write(path: Path, part: Part, extractor: Loaded) -> None:
    """Writes ADM's npz, uncompressed.

    `n_images`, `extractor_digest` and the features of its images are ours; ADM ignores them.
    """
    named: dict[str, Any] = {FEATURES + layer: rows for layer, rows in part.features.items()}
    for layer, own in part.moments.items():
        named |= dict(zip(STATISTICS[layer], (own.mean, own.sigma), strict=True))
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            arr_0=part.images,
            n_images=part.n,
            extractor_digest=extractor.digest,
            **named,
        )
