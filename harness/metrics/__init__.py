"""Metrics: METRICS, features to values, a table of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from harness.base.late import Late
from harness.metrics.rows import Metric, Values

__all__ = [
    "METRICS",
    "PAPER",
    "Metric",
    "Values",
    "default_names",
    "metric_of",
    "row_names",
    "value_names",
]

# A table: another metric is its function and its row. The order is that of the values in a record.
METRICS: dict[str, Metric] = {
    "fid": Metric(("fid",), ("pool",), Late("harness.metrics.frechet", "fid")),
    "sfid": Metric(("sfid",), ("spatial",), Late("harness.metrics.frechet", "sfid")),
    "inception_score": Metric(
        ("inception_score",), ("logits",), Late("harness.metrics.logits", "inception_score")
    ),
    "precision_recall": Metric(
        ("precision", "recall"),
        ("pool",),
        Late("harness.metrics.neighbours", "neighbours"),
        images=True,
    ),
    # Beside digits these two would take longer than sampling does, and nobody compares them there.
    "precision_recall_fp16": Metric(
        ("precision_fp16", "recall_fp16"),
        ("pool",),
        Late("harness.metrics.parity", "neighbours_fp16"),
        ("inception",),
        images=True,
    ),
    "kid": Metric(
        ("kid",), ("pool",), Late("harness.metrics.kernels", "kid"), ("inception",), images=True
    ),
    "fid_infinity": Metric(
        ("fid_infinity", "fid_infinity_low", "fid_infinity_high"),
        ("pool",),
        Late("harness.metrics.frechet", "infinity"),
    ),
    # Inception's classes are not in the order of ImageNet's labels.
    "label_accuracy": Metric(
        ("label_accuracy",),
        ("logits", "labels"),
        Late("harness.metrics.logits", "label_accuracy"),
        ("digits-cnn-1", "shapes-cnn-1", "moving-digits-1"),
    ),
    "density_coverage": Metric(
        ("density", "coverage"),
        ("pool",),
        Late("harness.metrics.neighbours", "density_and_coverage"),
        ("dinov2-vitl14",),
        images=True,
    ),
    "cmmd": Metric(
        ("cmmd",),
        ("pool",),
        Late("harness.metrics.kernels", "cmmd"),
        ("clip-vitl14-336",),
        images=True,
    ),
    "mind": Metric(("mind",), ("pool",), Late("harness.metrics.sliced", "mind"), (), images=True),
    "frame_fid": Metric(
        ("frame_fid",),
        ("frames",),
        Late("harness.metrics.motion", "frame_fid"),
        ("moving-digits-1",),
        images=True,
    ),
    "physics": Metric(
        ("motion_error", "speed_distance"),
        ("track",),
        Late("harness.metrics.motion", "physics"),
        ("moving-digits-1",),
        images=True,
    ),
}
PAPER = ("fid", "sfid", "inception_score", "precision", "recall")


def value_names() -> tuple[str, ...]:
    """The names of all values, in the order of the rows."""
    return tuple(name for row in METRICS.values() for name in row.values)


def metric_of(value: str) -> Metric | None:
    """The row that gives a value."""
    return next((row for row in METRICS.values() if value in row.values), None)


def row_names(values: Iterable[str]) -> set[str]:
    """The rows that give these values."""
    wanted = {*values}
    return {name for name, row in METRICS.items() if wanted & {*row.values}}


def default_names(extractor: str, layers: Collection[str]) -> tuple[str, ...]:
    """The values that a score through `extractor` holds without being asked."""
    rows = (row for row in METRICS.values() if row.is_default(extractor, layers))
    return tuple(name for row in rows for name in row.values)
