"""Values of features against a reference, by name, and the warnings about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from harness.base.errors import UserError
from harness.metrics import METRICS, PAPER, Metric, Values, metric_of, value_names
from harness.metrics.reference import Features, Reference


def values(features: Features, reference: Reference, names: Iterable[str] = PAPER) -> Values:
    """{name: value} of features by layer, fp32 [N, …], against a reference.

    Raises:
        UserError: an unknown name, a layer that the features lack, features or values that are not
            finite, or a reference that lacks what a metric needs.
    """
    names = tuple(names)
    rows = rows_of(names, features)
    refuse_without_images(rows, reference)
    for layer, numbers in features.items():
        if bad := int((~numbers.isfinite().all(1)).sum()):
            raise UserError(
                f"{layer} features of {bad} in {len(numbers)} images are not finite: look at those"
                " images"
            )
    found: Values = {}
    for row in rows:
        found |= row.compute(features, reference)
    if wrong := [f"{name} = {found[name]}" for name in names if not math.isfinite(found[name])]:
        count = len(next(iter(features.values())))
        raise UserError(
            f"{', '.join(wrong)} of {count} images by {reference.name}: look at the numbers of both"
        )
    return {name: found[name] for name in names}


def refuse_without_images(rows: Iterable[Metric], reference: Reference) -> None:
    """Refuses metrics that compare image by image where the reference has no images.

    Raises:
        UserError: a row compares with images, and the reference holds statistics alone.
    """
    blind = [name for row in rows if row.images for name in row.values]
    if blind and not reference.kept:
        raise UserError(
            f"reference {reference.name} holds no images, {', '.join(blind)} need them: take a file"
            " with statistics and images, or other metrics"
        )


def rows_of(names: Iterable[str], layers: Iterable[str]) -> list[Metric]:
    """The rows that give these values, each once.

    Raises:
        UserError: an unknown name, or one that needs another layer.
    """
    found = {name: metric_of(name) for name in names}
    if unknown := [name for name, row in found.items() if row is None]:
        raise UserError(f"no metric {', '.join(unknown)}: choose from {', '.join(value_names())}")
    rows = [row for row in METRICS.values() if row in found.values()]
    there = {*layers}
    if blind := [", ".join(row.values) for row in rows if not row.reads(there)]:
        readable = [name for row in METRICS.values() if row.reads(there) for name in row.values]
        raise UserError(
            f"{', '.join(blind)} cannot be computed from {', '.join(sorted(there))} features:"
            f" choose from {', '.join(readable)}"
        )
    return rows


def warnings(n: int, layers: Mapping[str, int]) -> list[str]:
    """Warnings beside values of `n` samples through an extractor with these layers."""
    if n > (width := layers.get("pool", 0)):
        return []
    return [
        f"{n} samples for {width} features: the covariance is singular and FID compares with no"
        " other value"
    ]
