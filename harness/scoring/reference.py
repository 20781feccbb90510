"""Reference statistics: read from ADM's npz, computed, merged over ranks, written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write, sha256
from harness.base.npz import Array, image_shape, image_side
from harness.scoring.arrays import read_array
from harness.scoring.features import Extractor, Features, extract
from harness.study.reference_file import STATISTICS, read_statistics

KEPT = 10_000  # images that ADM ships beside them, for precision and recall


@dataclass(frozen=True)
class Moments:
    """Number, mean [D] and scatter [D, D] of a set in float64; `+` joins two sets.

    The scatter is the sum of the outer products of deviations.
    """

    n: int
    mean: Array
    scatter: Array

    def __add__(self, other: Moments) -> Moments:
        """Chan, Golub & LeVeque 1979: sums of raw products would cancel where the mean is large."""
        n, apart = self.n + other.n, other.mean - self.mean
        between = np.outer(apart, apart) * (self.n * other.n / n)
        return Moments(n, self.mean + apart * (other.n / n), self.scatter + other.scatter + between)

    @property
    def sigma(self) -> Array:
        """Unbiased covariance [D, D].

        Raises:
            UserError: fewer than two rows.
        """
        if self.n < 2:
            raise UserError(f"{self.n} image has no covariance: give at least 2")
        return self.scatter / (self.n - 1)


def moments(features: Tensor) -> Moments:
    """Moments of [N, D], by blocks: two copies of 50,000 rows of Inception would be 1.6 GB."""
    return reduce(Moments.__add__, map(block_moments, torch.split(features, 4096)))


def block_moments(rows: Tensor) -> Moments:
    x = rows.to(torch.float64, copy=True)  # float64 features would be centred in place
    mean = x.mean(0)
    x -= mean
    return Moments(len(x), mean.numpy(), (x.T @ x).numpy())


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: it holds arrays
class Reference:
    """What samples are compared with: float64 statistics of both layers, fp32 `pool` [images, D].

    `n` images are behind the statistics where the file says so. ADM's files do not: there it counts
    the images they hold (10,000), while mu and sigma are those of the whole training set.
    """

    name: str
    digest: str
    n: int
    mu: Array
    sigma: Array
    mu_s: Array
    sigma_s: Array
    pool: Tensor


def from_images(name: str, images: Iterable[Tensor], extractor: Extractor) -> Reference:
    """Reference of a stream of uint8 batches [N, C, H, H]; the digest is of the pixels alone."""
    hashed = hashlib.sha256()

    def watched() -> Iterator[Tensor]:
        for batch in images:
            hashed.update(batch.numpy().tobytes())
            yield batch

    features = extract(watched(), extractor)
    return from_features(name, hashed.hexdigest(), features)


def from_features(name: str, digest: str, features: Features) -> Reference:
    """Reference of the features of all its images."""
    pool, spatial = moments(features["pool"]), moments(features["spatial"])
    statistics = (pool.mean, pool.sigma, spatial.mean, spatial.sigma)
    return Reference(name, digest, pool.n, *statistics, features["pool"])


def read(path: Path, extractor: Extractor, batch: int = 64) -> Reference:
    """Reference from ADM's npz or ours: images `arr_0`, uint8 NHWC, statistics, or both.

    Statistics that are absent are computed from the images, as ADM does; a file without images
    serves all metrics but precision, recall and KID. Other keys are ignored, only that ours names
    its extractor.

    Raises:
        UserError: not such a file, or one of other channels or of another extractor.
    """
    stored, digest = read_statistics(path, extractor.name), sha256(path)
    if stored.get("extractor_digest", extractor.digest) != extractor.digest:
        raise UserError(
            f"{path} was not made by {extractor.name} {extractor.digest[:8]}: make it again"
        )
    pool = torch.empty(0, len(stored.get("mu", ())))
    if image_side(path) or not stored:
        channels = image_shape(path)[2]
        if channels != extractor.channels:
            raise UserError(
                f"{path} has {channels} channels, {extractor.name} reads {extractor.channels}:"
                " take images it can read"
            )
        features = extract(read_array(path, batch), extractor)
        if not stored:
            return from_features(path.stem, digest, features)
        pool = features["pool"]
    statistics = (stored[key] for key in STATISTICS)
    return Reference(path.stem, digest, stored.get("n_images", len(pool)), *statistics, pool)


@dataclass(frozen=True)
class Part:
    """What one rank saw of a reference set: moments of both layers, a fair sample of images."""

    pool: Moments
    spatial: Moments
    images: Array

    def __add__(self, other: Part) -> Part:
        images = np.concatenate([self.images, other.images])
        return Part(self.pool + other.pool, self.spatial + other.spatial, images)


def collect(
    images: Iterable[Tensor], extractor: Extractor, keep: int = KEPT, seed: int = 0
) -> Part:
    """Moments of a stream of uint8 batches [N, C, H, W], and a fair sample of `keep` images.

    Not the first ones: a training set often comes sorted by class. Of several ranks with equal
    shares each keeps its part of KEPT; the sum of their parts goes to `write`.
    """
    kept: list[Array] = []
    totals: dict[str, Moments] = {}
    stream = reservoir(images, kept, keep, np.random.default_rng(seed))
    # Joining moments costs D²: not at every batch.
    while batches := [extractor(batch) for batch in islice(stream, 64)]:
        for layer in ("pool", "spatial"):
            fresh = moments(torch.cat([batch[layer] for batch in batches]))
            totals[layer] = totals[layer] + fresh if layer in totals else fresh
    if not kept:
        raise UserError("no images to make a reference of: name a folder or a file that has some")
    return Part(totals["pool"], totals["spatial"], np.stack(kept))


def reservoir(
    images: Iterable[Tensor], kept: list[Array], keep: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Passes batches on and leaves `keep` of their images, [H, W, C], in `kept`.

    Source: Vitter 1985, algorithm R.
    """
    seen = 0
    for batch in images:
        for image in batch.permute(0, 2, 3, 1).numpy():
            seen += 1
            if len(kept) < keep:
                kept.append(image.copy())  # a view would hold on to its whole batch
            elif (slot := rng.integers(seen)) < keep:
                kept[slot] = image.copy()
        yield batch


def write(path: Path, part: Part, extractor: Extractor) -> None:
    """Writes ADM's npz, uncompressed, with `n_images` and `extractor_digest`, which ADM ignores."""
    statistics = (part.pool.mean, part.pool.sigma, part.spatial.mean, part.spatial.sigma)
    named: dict[str, Any] = dict(zip(STATISTICS, statistics, strict=True))
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            arr_0=part.images,
            n_images=part.pool.n,
            extractor_digest=extractor.digest,
            **named,
        )
