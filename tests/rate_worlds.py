"""Planted learning-rate sweeps: the loss of each model over its rates, the best one a known law."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.random import Generator

from analysis.learning_rate_law import fit
from analysis.learning_rates import optima

OCTAVE = np.log(2)
SHARED: dict[str, Any] = {
    **dict.fromkeys(("study", "source", "size", "weights", "sampler", "decoder", "labels"), ""),
    **dict.fromkeys(("features", "reference", "conditioning", "others", "run"), ""),
    **{"data": "planted", "protocol": "held-out", "metric": "val_loss", "patch": 2.0, "n": 1000},
    **dict.fromkeys(("sampling_steps", "guidance", "guidance_channels"), np.nan),
    "step": 1000.0,
}


@dataclass(frozen=True)
class RateWorld:
    """log loss = 0.05 d² near the best rate, d octaves from it, steeper above where `skew` > 0.

    The best rate is 0.01 (params / 1e5)^exponent (batch / 64)^0.5; `sd` is the noise of one run.
    """

    exponent: float = -0.3
    params: tuple[float, ...] = (1e5, 4e5, 1.6e6, 6.4e6)
    batches: tuple[float, ...] = (64.0,)
    seeds: int = 1
    skew: float = 0.0
    sd: float = 0.01
    rates: tuple[float, ...] = field(
        default_factory=lambda: tuple(2.0**-k for k in range(12, 3, -1))
    )

    def best(self, params: float, batch: float = 64.0) -> float:
        return float(0.01 * (params / 1e5) ** self.exponent * (batch / 64) ** 0.5)

    def rise(self, octaves: np.ndarray) -> np.ndarray:
        if not self.skew:
            return 0.05 * octaves**2
        return 0.1 * (np.expm1(self.skew * octaves) - self.skew * octaves) / self.skew**2

    def draw(self, rng: Generator) -> pd.DataFrame:
        axes = [self.params, self.batches, self.rates, np.arange(self.seeds, dtype=float)]
        grid: np.ndarray = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 4)
        rows = pd.DataFrame(grid, columns=["params", "batch_size", "lr", "seed"])
        best = [self.best(n, b) for n, b in zip(rows["params"], rows["batch_size"], strict=True)]
        logs = self.rise(np.log2(rows["lr"] / best).to_numpy())
        value = 0.2 * np.exp(logs + self.sd * rng.standard_normal(len(rows)))
        model = "DiT-" + rows["params"].map("{:g}".format)
        gflops = rows["params"] / 1e6
        return rows.assign(**SHARED, model=model, gflops=gflops, value=value)

    def hits(self, rng: Generator) -> dict[str, float]:
        """Whether each interval that there is holds what was planted."""
        found = optima(self.draw(rng), "val_loss")
        known = found[found["low"] > 0]
        truth = [self.best(n, b) for n, b in zip(known["params"], known["batch_size"], strict=True)]
        inside = (known["low"] <= truth) & (truth <= known["high"])
        hits = {"optima with an interval": len(known) / len(found)}
        hits |= {"best rate": inside.mean()} if len(known) else {}
        law, exponents = fit(found), {"params": self.exponent, "batch_size": 0.5}
        for axis in law.axes:
            _, low, high = law.exponent(axis)
            hits[f"exponent of {axis}"] = low <= exponents[axis] <= high
        at = {"params": 2 * max(self.params), "batch_size": max(self.batches)}
        _, low, high = law.at(*(at[axis] for axis in law.axes))
        return hits | {"law at twice the size": low <= self.best(*at.values()) <= high}


WORLDS = {
    "4 models": RateWorld(),
    "4 models, skew": RateWorld(skew=0.5),
    "4 models, skew, 3 %": RateWorld(skew=0.5, sd=0.03),
    "4 models, 2 seeds": RateWorld(seeds=2, sd=0.02),
    "3 models, strong skew, 3 seeds": RateWorld(params=(1e5, 1e6, 1e7), seeds=3, skew=1.0, sd=0.02),
    "6 models, 5 rates": RateWorld(
        exponent=-0.1,
        params=(1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6),
        rates=tuple(2.0**-k for k in range(9, 4, -1)),
        skew=0.5,
    ),
    "3 models by 3 batches": RateWorld(params=(1e5, 4e5, 1.6e6), batches=(32.0, 64.0, 128.0)),
    "muP, 4 models": RateWorld(
        exponent=0.0, skew=0.5, rates=tuple(2.0**-k for k in range(10, 4, -1))
    ),
}
