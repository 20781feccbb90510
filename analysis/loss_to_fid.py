"""FID from the loss: FID = k (L − L0)^p over all checkpoints, and its error on families unseen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize

from analysis.correlation import Array, jackknife_half
from analysis.fits import one_study, positive
from analysis.grid import grid
from analysis.table import LOSSES, RUN, TableError, listed

# The bend c of log FID over the loss: L0 is 1 / c ranges of the loss below the least. At 0 the
# law is exponential; below, FID has a pole above the losses. Only intervals need these: estimates
# that stop at the exponential have no spread there.
BENDS = np.concatenate([np.linspace(-0.95, 0, 12), np.geomspace(0.01, 1e4, 60)])
LEAST = 0.01  # of a law with L0
# Noise of the least loss by that of FID, in log FID. Without it the lowest losses, where L - L0 is
# small, are followed too closely: p is too large and its interval up to twice as wide.
NOISES = np.array([0.0, *2.0 ** np.arange(-1, 8)])
FEWEST = 5  # scores: three parameters, and two to judge them by


@dataclass(frozen=True)
class LossLaw:
    """log FID = log k + p log(L − L0); `identified` tells whether L0 is inside its limits."""

    k: float
    p: float
    floor: float
    identified: bool

    def fid(self, loss: Array) -> Array:
        """Returns the FID at losses; NaN where a loss is not above L0."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.k * (loss - self.floor) ** self.p)


def pairs(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """Returns one row per checkpoint with both scores: family, run (a number), loss, value.

    Raises:
        TableError: no loss is scored, none at the same checkpoints, or several studies.
    """
    scored = set(table["metric"])
    losses = [name for name in LOSSES if name in scored]
    if not losses:
        raise TableError(
            "no loss is scored at the checkpoints: add the validation loss to the sweep's protocols"
        )
    scores = one_study(positive(grid(table, metric, protocol)))
    keys = [*RUN, "step"]
    loss = grid(table, losses[0])[[*keys, "value"]].rename(columns={"value": "loss"})
    found = scores.merge(loss, on=keys)
    if len(found) < FEWEST:
        raise TableError(
            f"{len(found)} checkpoints have both {losses[0]} and {metric}, a law needs {FEWEST}:"
            " score both at the same steps"
        )
    run = found.groupby(RUN, dropna=False, sort=False).ngroup()
    return found.assign(run=run)[["family", "model", "run", "step", "loss", "value"]]


def fit(rows: pd.DataFrame) -> LossLaw:
    """Fits the law by maximum likelihood, with noise in log FID and in the loss.

    Raises:
        TableError: too few checkpoints, or one loss.
    """
    loss = rows["loss"].to_numpy(float)
    bend, slope, height = bent(rows, BENDS[BENDS >= LEAST])
    p, spread = slope / bend, float(np.ptp(loss))
    floor = loss.min() - spread / bend
    inside = bool(LEAST * 1.001 < bend < BENDS[-1] / 1.001)
    return LossLaw(float(np.exp(height) * (bend / spread) ** p), p, float(floor), inside)


def bent(rows: pd.DataFrame, bends: Array) -> tuple[float, float, float]:
    """Fits log FID = height + slope log(1 + c u) / c; u is the loss above the least, in ranges.

    Returns c, slope and height: c and the noise of the loss from a grid, c then by Brent.

    Raises:
        TableError: too few checkpoints, or one loss.
    """
    loss, y = rows["loss"].to_numpy(float), np.log(rows["value"].to_numpy(float))
    spread = float(np.ptp(loss))
    if len(rows) < FEWEST or not spread > 0:
        raise TableError(f"a law of FID by loss needs {FEWEST} checkpoints of different loss")
    u = (loss - loss.min()) / spread
    values = lines(u, y, bends[:, None, None], NOISES[:, None])[0]
    place, noise = map(int, np.unravel_index(np.argmin(values), values.shape))
    around = bends[max(place - 1, 0)], bends[min(place + 1, len(bends) - 1)]
    found = optimize.minimize_scalar(
        lambda bend: float(lines(u, y, bend, NOISES[noise])[0]),
        bounds=around,
        method="bounded",
        options={"xatol": 1e-6 * (around[1] - around[0])},
    )
    _, slope, height = lines(u, y, found.x, NOISES[noise])
    return float(found.x), float(slope), float(height)


def lines(u: Array, y: Array, bend: Array | float, noise: Array | float) -> tuple[Array, ...]:
    """Returns -2 log likelihood, slope and height of weighted lines; the last axis is the points.

    Noise of the loss enters log FID by the law's derivative, 1 / (1 + c u).
    """
    bend = np.where(np.abs(bend) < 1e-9, 1e-9, bend)
    x, variance = np.log1p(bend * u) / bend, 1 + (noise / (1 + bend * u)) ** 2
    weight = 1 / variance
    total = weight.sum(-1)
    middle, mean = (weight * x).sum(-1) / total, (weight * y).sum(-1) / total
    dx, dy = x - middle[..., None], y - mean[..., None]
    slope = (weight * dx * dy).sum(-1) / (weight * dx**2).sum(-1)
    squares = (weight * (dy - slope[..., None] * dx) ** 2).sum(-1)
    # Scores without noise have no likelihood: a floor of 1e-9 of a log keeps it finite.
    value = len(u) * np.log(squares + 1e-18) + np.log(variance).sum(-1)
    return value, slope, mean - slope * middle


def exponent_interval(rows: pd.DataFrame) -> tuple[float, float]:
    """Returns the 95 % jackknife-t interval of p over runs, from that of 1 / p.

    1 / p goes through 0 where the law is exponential, so that it is regular where p has no bound:
    there the upper one is infinite.

    Raises:
        TableError: fewer than 3 runs, or p has no bound on either side.
    """
    runs = rows["run"].unique()
    if len(runs) < 3:
        raise TableError(
            f"an interval over runs needs 3 of them, there are {len(runs)}: train more"
        )
    half = jackknife_half(np.array([inverse(rows[rows["run"] != run]) for run in runs]))
    middle = inverse(rows)
    if middle + half <= 0:
        raise TableError("p is not identified: FID grows faster than any power of L - L0")
    low, high = 1 / (middle + half), 1 / (middle - half) if middle > half else np.inf
    return float(low), float(high)


def inverse(rows: pd.DataFrame) -> float:
    """Returns 1 / p, also at and beyond the exponential, where it is 0 and less."""
    bend, slope, _ = bent(rows, BENDS)
    return bend / slope


def left_out(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Predicts each group's FID from its loss by the law of all other groups.

    `by` is family or run. Columns: those of the rows, and prediction. A loss that is below the
    others' L0 has no prediction, NaN.

    Raises:
        TableError: one group, or too few scores in the others.
    """
    names = rows[by].unique()
    if len(names) < 2:
        raise TableError(
            f"an error on a {by} left out needs two, there is {listed(rows[by])}: train another"
            f" {by}, or give its table too"
        )
    found = []
    for name in names:
        law, own = fit(rows[rows[by] != name]), rows[rows[by] == name]
        found.append(own.assign(prediction=law.fid(own["loss"].to_numpy(float))))
    return pd.concat(found)


def typical_error(rows: pd.DataFrame) -> float:
    """Returns exp(mean |log(prediction / truth)|) − 1 of the rows that have a prediction."""
    known = rows.dropna(subset=["prediction"])
    return float(np.expm1(np.abs(np.log(known["prediction"] / known["value"])).mean()))
