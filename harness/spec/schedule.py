"""Schedules: how the learning rate changes over the steps, as a field's text. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

FORMS = (
    "constant, warmup-STEPS, or wsd-WARMUP-START-END: a linear rise over WARMUP steps, constant"
    " until START, and a linear decay that reaches 0 at END"
)


@dataclass(frozen=True)
class Schedule:
    """Factors of the learning rate, by step.

    It rises linearly over `warmup` steps and stays; with `decay`, (start, end), it falls linearly
    to 0 between these steps and stays there.
    """

    warmup: int = 0
    decay: tuple[int, int] | None = None

    def factor(self, step: int) -> float:
        """The factor of step 1, 2, …; 1 is the run's lr."""
        rise = min(1.0, step / self.warmup) if self.warmup else 1.0
        if self.decay is None:
            return rise
        start, end = self.decay
        return min(rise, max(0.0, (end - step) / (end - start)))


def read_schedule(text: str | None) -> Schedule | None:
    """The schedule of a run's field; None where the text has no such form."""
    if text is None:
        return Schedule()
    if found := re.fullmatch(r"warmup-([1-9]\d*)", text):
        return Schedule(int(found[1]))
    if found := re.fullmatch(r"wsd-(\d+)-(\d+)-(\d+)", text):
        warmup, start, end = map(int, found.groups())
        return Schedule(warmup, (start, end)) if warmup <= start < end else None
    return None


def schedule_problem(text: str) -> str | None:
    """A check that the text is a schedule."""
    return None if read_schedule(text) else f"is no schedule: write {FORMS}"
