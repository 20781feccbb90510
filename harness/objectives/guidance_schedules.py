"""How guidance changes over the time of sampling, as a protocol's text. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

FORMS = (
    "interval-LOW-HIGH, which guides between these times alone, or power-cosine-POWER, which guides"
    " more towards the data; times run from 0, data, to 1, noise"
)
NUMBER = r"(\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class GuidanceSchedule:
    """Which share of the guidance applies at a time: that of w is 1 + (w - 1) · share.

    interval: all of it at low ≤ t < high, else none (Kynkäänniemi et al. 2024, there in noise
    levels); power: ½ (1 - cos(π (1 - t)^power)), nothing at pure noise (MDT's). One of the two.
    """

    interval: tuple[float, float] = (0.0, 1.0)
    power: float | None = None

    @property
    def guided(self) -> float:
        """The share of the steps that run the network twice."""
        return self.interval[1] - self.interval[0]


def read_guidance(text: str) -> GuidanceSchedule | None:
    """The schedule of a protocol's field; None where the text has no such form."""
    if found := re.fullmatch(f"interval-{NUMBER}-{NUMBER}", text):
        low, high = map(float, found.groups())
        return GuidanceSchedule((low, high)) if low < high <= 1 else None
    if (found := re.fullmatch(f"power-cosine-{NUMBER}", text)) and float(found[1]) > 0:
        return GuidanceSchedule(power=float(found[1]))
    return None


def guidance_problem(text: str) -> str | None:
    """A check that the text is a schedule."""
    return None if read_guidance(text) else f"is no schedule of guidance: write {FORMS}"
