"""Averages of weights over training: a constant decay, or a power function of time. No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

WIDEST = math.sqrt(1 / 12)  # relative deviation of an average that weighs all steps alike


@dataclass(frozen=True)
class Average:
    """How much of the average a step keeps: `decay`, or (1 - 1 / step)^(gamma + 1).

    A power function's length grows with training, so that short runs and long ones are averaged
    over the same share of their steps (Karras et al. 2024, EDM2, section 3.1).
    """

    decay: float = 0.0
    gamma: float | None = None

    def kept(self, step: int) -> float:
        """The share that step 1, 2, … keeps."""
        if self.gamma is None:
            return self.decay
        return float((1 - 1 / step) ** (self.gamma + 1))


def gamma_of(width: float) -> float:
    """The exponent of an average whose weights deviate by `width` of the steps taken.

    Solves width² = (gamma + 1) / ((gamma + 2)² (gamma + 3)), which falls with gamma.
    """
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        wide = math.sqrt((middle + 1) / ((middle + 2) ** 2 * (middle + 3))) > width
        low, high = (middle, high) if wide else (low, middle)
    return low


def read_ema(text: str | None, decay: float) -> Average | None:
    """The average of a run's fields; None where the text has no such form."""
    if text is None:
        return Average(decay)
    found = re.fullmatch(r"power-(0\.\d+)", text)
    width = float(found[1]) if found else 0.0
    return Average(gamma=gamma_of(width)) if 1e-3 <= width < WIDEST else None


def ema_problem(text: str) -> str | None:
    """A check that the text is an average."""
    if read_ema(text, 0.0):
        return None
    return f"is no average: write power-WIDTH, with a width from 0.001 to {WIDEST:.3f} of the steps"
