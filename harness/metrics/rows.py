"""A row of METRICS: the values it gives, the features it needs, and its function. No torch."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.metrics.reference import Features, Reference

Values = dict[str, float]


@dataclass(frozen=True)
class Metric:
    """One row: all the values of one computation.

    values: their names; layers: those of the samples' features that it reads; compute: (features of
    the samples by layer, reference) → the values by name; images: whether the reference must hold
    features of images, beside its statistics.
    default_for: extractors whose scores hold it without being asked, None for all that give its
    layers, () for none.
    """

    values: tuple[str, ...]
    layers: tuple[str, ...]
    compute: Callable[[Features, Reference], Values]
    default_for: tuple[str, ...] | None = None
    images: bool = False

    def reads(self, layers: Collection[str]) -> bool:
        """Whether features of these layers are enough."""
        return {*self.layers} <= {*layers}

    def is_default(self, extractor: str, layers: Collection[str]) -> bool:
        """Whether a score through `extractor` holds it without being asked."""
        wanted = self.default_for is None or extractor in self.default_for
        return wanted and self.reads(layers)
