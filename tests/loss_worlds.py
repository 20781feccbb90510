"""Planted FID by loss: curves of several sizes, with noise of runs, of scores and of the loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.random import Generator

from analysis.loss_to_fid import exponent_interval

EXPONENT = 1.7


@dataclass(frozen=True)
class LossWorld:
    """FID = 900 (L - 0.14)^1.7 of `runs` sizes at six steps; the gap L - 0.14 falls with both.

    `least` is the smallest gap by the range of losses; `of_loss` the noise of a loss by that gap.
    """

    runs: int = 6
    least: float = 0.05
    of_loss: float = 0.0
    of_run: float = 0.03
    of_score: float = 0.015

    def draw(self, rng: Generator) -> pd.DataFrame:
        shape = np.geomspace(1, 0.1, self.runs)[:, None] + np.geomspace(1, 0.1, 6)
        rise = ((shape - shape.min()) / np.ptp(shape)).ravel()
        gap, run = 0.2 * (self.least + rise), np.repeat(np.arange(self.runs), 6)
        own = self.of_run * rng.standard_normal(self.runs)[run]
        noise = np.exp(own + self.of_score * rng.standard_normal(len(run)))
        loss = 0.14 + gap + 0.2 * self.least * self.of_loss * rng.standard_normal(len(run))
        value = 900 * gap**EXPONENT * noise
        return pd.DataFrame({"family": "a", "run": run, "loss": loss, "value": value})

    def hits(self, rng: Generator) -> dict[str, float]:
        """Whether the interval of p holds what was planted, and has an upper bound."""
        low, high = exponent_interval(self.draw(rng))
        return {"p": low <= EXPONENT <= high, "p has an upper bound": np.isfinite(high)}


WORLDS = {
    f"{runs} runs{text}": LossWorld(runs, **noise)
    for runs in (6, 8, 12)
    for text, noise in {
        "": {},
        ", noise in the loss": {"of_loss": 0.2},
        ", gaps above half the range": {"least": 0.5},
        ", gaps above half the range, noise in the loss": {"least": 0.5, "of_loss": 0.05},
        ", gaps above half the range, runs 20 %": {"least": 0.5, "of_run": 0.2},
    }.items()
}
