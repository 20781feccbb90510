"""What a reference npz holds, checked before it is used or a run is trained for it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.base import npz
from harness.base.errors import UserError
from harness.base.npz import Array, Header
from harness.extractors import EXTRACTORS

# ADM's keys: mean and covariance of the layers that have them.
STATISTICS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
FEATURES = "features_"  # our keys: that and the layer, of those that are compared image by image
SUMMARIZED = ("spatial", "logits")  # layers that are not
ROUNDING = 1e-4  # of the largest variance: how far fp32 sums may leave a covariance from symmetric


def read_statistics(path: Path, features: str) -> dict[str, Any]:
    """The float64 statistics of a file, with n_images and extractor_digest where it has them.

    {} for a file without statistics: they are computed from its images.

    Raises:
        UserError: the file is damaged, or these are no statistics of the extractor `features`.
    """
    shapes = statistics_shapes(features)
    present = npz.keys(path) & {key for keys in STATISTICS.values() for key in keys}
    if not present:
        return {}
    refuse_other_layers(path, present, shapes, features)
    stored = npz.read_arrays(path, (*shapes, "n_images", "extractor_digest"))
    found: dict[str, Any] = {key: stored[key].astype(np.float64) for key in shapes}
    for key in shapes:
        if problem := array_problem(found[key]):
            raise UserError(f"{key} of {path} {problem}: fetch or make it again")
    if "n_images" in stored:
        found["n_images"] = read_count(path, stored["n_images"])
    if "extractor_digest" in stored:
        found["extractor_digest"] = str(stored["extractor_digest"])
    return found


def read_features(path: Path, features: str) -> dict[str, Array]:
    """The fp32 features [images, numbers] of a file's images, by layer.

    {} where some are absent, as in ADM's files: they are computed from the images.

    Raises:
        UserError: they are damaged, or of another number or width than the extractor's.
    """
    layers = EXTRACTORS[features].layers
    keys = {FEATURES + layer: layer for layer in layers if layer not in SUMMARIZED}
    if not keys or not {"arr_0", *keys} <= npz.keys(path):
        return {}
    images = npz.image_shape(path)[0]
    for key, layer in keys.items():
        check_header(path, key, npz.header(path, key), (images, layers[layer]), features)
    stored = npz.read_arrays(path, keys)
    for key, rows in stored.items():
        if bad := int((~np.isfinite(rows)).sum()):
            raise UserError(f"{key} of {path} has {bad} numbers that are not finite: make it again")
    return {layer: stored[key].astype(np.float32) for key, layer in keys.items()}


def refuse_other_layers(
    path: Path, present: set[str], shapes: Mapping[str, tuple[int, ...]], features: str
) -> None:
    """Checks which statistics a reference has, and their headers.

    Raises:
        UserError: the statistics are of another layer than the extractor's, or some are absent.
    """
    if foreign := sorted(present - shapes.keys()):
        raise UserError(
            f"{path} has {', '.join(foreign)}, of a layer that {features} does not give:"
            f" {made_by(features)}"
        )
    for key in sorted(present):
        check_header(path, key, npz.header(path, key), shapes[key], features)
    if absent := [key for key in shapes if key not in present]:
        raise UserError(
            f"{path} has no {', '.join(absent)}: take a whole file, or one without statistics"
        )


def made_by(features: str) -> str:
    return f"make it with harness reference --extractor {features}"


def statistics_shapes(features: str) -> dict[str, tuple[int, ...]]:
    """The shapes of an extractor's statistics in a file, by key."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (mean, covariance) in STATISTICS.items():
        if width := EXTRACTORS[features].layers.get(layer):
            shapes |= {mean: (width,), covariance: (width, width)}
    return shapes


def check_header(path: Path, key: str, head: Header, shape: tuple[int, ...], features: str) -> None:
    """Checks an array by its header: one of the wrong size is never read.

    Raises:
        UserError: it is no real number, or of another shape than the extractor gives.
    """
    npz.refuse_objects(path, key, head)
    if head.dtype.kind != "f":
        raise UserError(f"{key} of {path} is {head.dtype}, not float32 or float64: make it again")
    if head.shape != shape:
        raise UserError(
            f"{key} of {path} has shape {head.shape}, {features} gives {shape}: {made_by(features)}"
        )


def array_problem(x: Array) -> str:
    """What keeps a mean [D] or a covariance [D, D] from being one, or ""."""
    if bad := int((~np.isfinite(x)).sum()):
        return f"has {bad} numbers that are not finite"
    if x.ndim == 1:
        return ""
    if (variance := float(np.diagonal(x).min())) < 0:
        return f"has a variance of {variance:.3g}"
    if (apart := float(np.abs(x - x.T).max())) > ROUNDING * float(np.diagonal(x).max()):
        return f"is not symmetric, by {apart:.3g}"
    return ""


def read_count(path: Path, n: Array) -> int:
    """The number of images behind the statistics.

    Raises:
        UserError: it is no positive whole number.
    """
    if n.shape != () or n.dtype.kind not in "iu" or n < 1:
        value = " ".join(str(n).split())[:40]
        raise UserError(f"n_images of {path} is {value}, not a number of images: make it again")
    return int(n)
