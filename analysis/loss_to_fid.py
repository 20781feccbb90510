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

# L0 is below the least loss by this many ranges of the loss: at the last the law is exponential.
GAPS = (1e-4, 100.0)
NODES = 60
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
    """Fits the law by least squares of log FID: a line given L0, which a grid and Brent find.

    Raises:
        TableError: too few checkpoints, or one loss.
    """
    loss, y = rows["loss"].to_numpy(float), np.log(rows["value"].to_numpy(float))
    spread = float(np.ptp(loss))
    if len(rows) < FEWEST or not spread > 0:
        raise TableError(f"a law of FID by loss needs {FEWEST} checkpoints of different loss")

    def squares(log_gap: float) -> float:
        return float(line(loss, y, loss.min() - spread * np.exp(log_gap))[1])

    nodes = np.linspace(np.log(GAPS[0]), np.log(GAPS[1]), NODES)
    values = [squares(node) for node in nodes]
    place = int(np.argmin(values))
    around = (nodes[max(place - 1, 0)], nodes[min(place + 1, NODES - 1)])
    found = optimize.minimize_scalar(squares, bounds=around, method="bounded")
    floor = loss.min() - spread * np.exp(found.x)
    (p, log_k), _ = line(loss, y, floor)
    inside = bool(nodes[0] + 1e-3 < found.x < nodes[-1] - 1e-3)
    return LossLaw(float(np.exp(log_k)), float(p), float(floor), inside)


def line(loss: Array, y: Array, floor: float) -> tuple[Array, float]:
    """Returns (slope, intercept) of log FID over log (L − L0), and the sum of squares."""
    x = np.log(loss - floor)
    middle, height = x.mean(), y.mean()
    slope = ((x - middle) @ (y - height)) / ((x - middle) @ (x - middle))
    intercept = height - slope * middle
    return np.array([slope, intercept]), float(((y - intercept - slope * x) ** 2).sum())


def exponent_interval(rows: pd.DataFrame) -> tuple[float, float]:
    """Returns the 95 % jackknife-t interval of p over runs.

    Raises:
        TableError: fewer than 3 runs.
    """
    runs = rows["run"].unique()
    if len(runs) < 3:
        raise TableError(
            f"an interval over runs needs 3 of them, there are {len(runs)}: train more"
        )
    half = jackknife_half(np.array([fit(rows[rows["run"] != run]).p for run in runs]))
    p = fit(rows).p
    return p - half, p + half


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
