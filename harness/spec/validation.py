"""Validation: the loss of a checkpoint on held-out images, by every field that changes it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

from harness.base.validation import one_of, refuse, safe_name, within
from harness.spec.ema import weights_problem
from harness.spec.identity import PRECISIONS, Identity
from harness.spec.protocol import Protocol

BINS = 10  # of time, as equal shares of what training draws


@dataclass(frozen=True, kw_only=True)
class Validation(Identity):
    """The loss of a checkpoint on images that no run is trained on; nothing is sampled.

    `points` triples (image, time, noise) are fixed by `seed`, the same for every run of a dataset:
    times are stratified, and closer where there is little noise, images come equally often, with
    their labels. A point costs one forward. The default has a relative standard error of at most
    1e-3 of DiT's loss of digits, the noisiest there is (tests/scoring/test_validate.py).

    Raises:
        UserError: naming every field that is unknown, of another type or out of range.
    """

    name: Annotated[str, safe_name]
    points: Annotated[int, within(2 * BINS)] = 131_072
    weights: Annotated[str, weights_problem] = "ema"
    precision: Annotated[str, one_of(PRECISIONS)] = "fp32"
    seed: Annotated[int, within(0)] = 0

    def __post_init__(self) -> None:
        refuse(f"Validation({self.name})", self.field_problems())

    @property
    def n(self) -> int:
        """What a record counts."""
        return self.points

    @property
    def passes(self) -> int:
        """Forward passes of one image, in all."""
        return self.points

    @functools.cached_property
    def id(self) -> str:
        return f"{self.name}_{self.digest()}"


AnyProtocol = Protocol | Validation


def read_protocol(fields: dict[str, object]) -> AnyProtocol:
    """The protocol of these fields.

    Raises:
        UserError: they are no protocol's.
    """
    part = Validation if "points" in fields else Protocol
    return part(**fields)  # type: ignore[arg-type]
