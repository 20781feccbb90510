"""Averages of weights over training: a constant decay, or a power function of time. No torch."""

from __future__ import annotations

import functools
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


@functools.cache
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


def widths_of(text: str | None) -> tuple[float, ...]:
    """The widths of the averages that a run tracks: (0.05, 0.1) of "power-0.05+power-0.1"."""
    return tuple(float(part.removeprefix("power-")) for part in text.split("+")) if text else ()


def averages_of(text: str | None, decay: float) -> dict[str, Average]:
    """The averages that a run tracks, by the name of their file: "ema" is the first one's."""
    names = ["ema", *(f"ema-{width}" for width in widths_of(text)[1:])]
    parts = text.split("+") if text else [None]
    return {
        name: read_ema(part, decay) or Average(decay)
        for name, part in zip(names, parts, strict=True)
    }


def file_of(weights: str, text: str | None) -> str | None:
    """The name of the file that has a protocol's weights; None of an average to be rebuilt."""
    if weights in ("raw", "ema"):
        return weights
    widths, width = widths_of(text), width_of(weights)
    return [*averages_of(text, 0.0)][widths.index(width)] if width in widths else None


def made_from(weights: str, text: str | None) -> tuple[str, ...]:
    """The files of a checkpoint that a protocol's weights are read or rebuilt from."""
    own = file_of(weights, text)
    return (own,) if own else (*averages_of(text, 0.0),)


def width_of(weights: str) -> float:
    """0.075 of "ema-0.075"."""
    return float(weights.removeprefix("ema-"))


def ema_problem(text: str) -> str | None:
    """A check that the text is an average, or several."""
    form = f"write power-WIDTH, with a width from 0.001 to {WIDEST:.3f} of the steps"
    if not all(read_ema(part, 0.0) for part in text.split("+")):
        return f"is no average: {form}"
    widths = widths_of(text)
    if list(widths) != sorted(set(widths)):
        return f"must rise: {'+'.join(f'power-{width}' for width in sorted(set(widths)))}"
    return None


def weights_problem(text: str) -> str | None:
    """A check that a protocol's weights are "ema", "raw", or an average of a width of its own."""
    if text in ("ema", "raw"):
        return None
    found = re.fullmatch(r"ema-(0\.\d*[1-9])", text)
    if found and 1e-3 <= float(found[1]) < WIDEST:
        return None
    return f"is unknown: take ema, raw, or ema-WIDTH, such as ema-0.075, below {WIDEST:.3f}"
