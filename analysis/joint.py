"""The joint law of a score over model size, tokens and images seen, fitted to all checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from analysis.correlation import Array
from analysis.fits import one_study, positive
from analysis.grid import grid
from analysis.horizons import with_trunks
from analysis.joint_search import UNREACHED, refine, shapes, terms_of
from analysis.table import RUN, TableError, listed

# score = E + A (N / N0)^-α (T / T0)^-γ + B (D / D0)^-β, about the geometric means N0, T0, D0.
PARAMETERS = ("E", "A", "B", "α", "γ", "β")
E, A, B, ALPHA, GAMMA, BETA = range(6)
EXPONENTS = (0.0, 3.0)
# Fewer tokens may be better in no study known; a little below 0 lets noise say so.
GAMMA_LIMITS = (-1.0, 3.0)
LEAST = np.log(1e-3)  # of the lowest score: a term below 0.1 % of it is none
NODES = {ALPHA: (0.05, 0.15, 0.3, 0.5, 0.8, 1.2), BETA: (0.05, 0.15, 0.3, 0.6, 1.0, 1.6)}
NODES[GAMMA] = (-0.1, 0.1, 0.3, 0.5, 0.8, 1.2)
STARTS = 8
# Early checkpoints of a run are of another regime: its first tenth is left out (Choshen et al.,
# arXiv 2410.11840).
SKIPPED = 0.1
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class Points:
    """Scores of one family's checkpoints: logs of N, T, D about `centre` [3], and of the score."""

    x: Array  # [3, points]
    y: Array
    run: Whole
    centre: Array
    rows: pd.DataFrame

    @property
    def runs(self) -> int:
        return int(self.run.max()) + 1


@dataclass(frozen=True)
class Joint:
    """A fitted law: `theta` has logs of E, A, B at the centre, then α, γ, β; `free` those fitted.

    What is not free has no variation to be fitted to: a term that is constant is part of E.
    """

    points: Points
    theta: Array
    free: Flags
    limits: tuple[Array, Array]
    scale: float
    residuals: Array  # log of the score less that of the law
    loss: float

    def constants(self) -> dict[str, float]:
        """Returns E, A, B, α, γ, β of the law in N, T, D themselves, not about the centre."""
        logs, (n, t, d) = self.theta.copy(), self.points.centre
        logs[A] += logs[ALPHA] * n + logs[GAMMA] * t
        logs[B] += logs[BETA] * d
        values = [*np.exp(logs[:3]), *logs[3:]]
        has_floor = self.theta[E] > self.limits[0][E] + 1e-6
        present = [has_floor, *self.free[[A, B, ALPHA, GAMMA]], True]
        known = zip(PARAMETERS, values, present, strict=True)
        return {name: float(value) if there else 0.0 for name, value, there in known}


def points_of(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> list[Points]:
    """Returns the points of every family: all its checkpoints after each run's first tenth.

    The size N is multiply-adds per token: they leave out adaLN's linears, a third of a DiT's
    parameters, which run once per image; and they have attention's products, which are no
    parameters.

    Raises:
        TableError: no such score, several studies, no batch size, or a score without a logarithm.
    """
    rows = positive(one_study(grid(table, metric, protocol)))
    images = rows["images"].fillna(rows["batch_size"] * rows["step"])
    size = 1e9 * rows["gflops"] / rows["tokens"]
    rows = rows.assign(N=size, T=rows["tokens"], D=images)
    reached = rows.groupby(RUN, dropna=False)["step"].transform("max")
    rows = rows[rows["step"] > SKIPPED * reached]
    usable = rows[rows[["N", "T", "D"]].gt(0).all(axis=1)]
    if usable.empty:
        raise TableError(
            f"no {metric} has the tokens of its model and the images seen: collect the table again"
        )
    return [points_from(part) for _, part in usable.groupby("family", sort=False)]


def points_from(rows: pd.DataFrame) -> Points:
    """Returns the points of rows with the columns N, T, D, value and those that make a run."""
    logs = np.log(rows[["N", "T", "D"]].to_numpy(float).T)
    centre = logs.mean(1)
    by = [name for name in RUN if name in rows]
    run = with_trunks(rows).groupby(by, dropna=False, sort=False).ngroup().to_numpy()
    y = np.log(rows["value"].to_numpy(float))
    return Points(logs - centre[:, None], y, run.astype(np.int64), centre, rows)


def freedom(x: Array) -> Flags:
    """Returns which parameters a set of points can have: a constant axis has no exponent."""
    n, t, d = (np.ptp(axis) > 1e-6 for axis in x)
    return np.array([True, n or t, d, n, t, d])


def fit(points: Points, scale: float | None = None) -> Joint:
    """Fits the law by a Huber loss of the log score.

    Given the exponents the law is linear, so that a grid over them with non-negative least squares
    inside gives the starts (variable projection); they are refined together. The Huber scale is
    1.345 of a robust standard deviation of a first, plain pass, unless it is given.

    Raises:
        TableError: too few runs or points for the parameters that vary.
    """
    free = freedom(points.x)
    require_enough(points, free)
    limits = limits_of(points.y, free)
    # The score's own weight is 1 / score²: in first order a relative error is that of the log.
    starts = project(points, free, limits)
    if scale is None:
        theta, loss, terms = refine(starts, points.x, points.y[None], UNREACHED, limits)
        residual = points.y - np.log(terms[:, loss.argmin()].sum(0))
        scale = max(1.345 * 1.4826 * float(np.median(np.abs(residual))), 1e-9)
        starts = theta
    theta, loss, terms = refine(starts, points.x, points.y[None], scale, limits)
    best = int(loss.argmin())
    residual = points.y - np.log(terms[:, best].sum(0))
    return Joint(points, theta[best], free, limits, scale, residual, float(loss[best]))


def require_enough(points: Points, free: Flags) -> None:
    """Refuses points that are too few to fit the joint law.

    Raises:
        TableError: naming how many runs and points there are, and what would supply the rest.
    """
    if not free[ALPHA] and not free[GAMMA]:
        raise TableError(
            f"the joint law needs several sizes, there is one ({listed(points.rows['model'])}):"
            " train other sizes (`harness isoflop` writes their sweep)"
        )
    needed = int(free.sum()) + 2
    if points.runs < needed:
        raise TableError(
            f"the joint law has {needed - 2} parameters here and needs {needed} runs, there are"
            f" {points.runs}: train more sizes, or seed=0,1,2 of these"
        )


def limits_of(y: Array, free: Flags) -> tuple[Array, Array]:
    """Returns the limits [6] of the search; those of what is not free are one value."""
    term = (y.min() + LEAST, y.max() + 3)
    low = np.array([term[0]] * 3 + [EXPONENTS[0], GAMMA_LIMITS[0], EXPONENTS[0]])
    high = np.array([y.min(), term[1], term[1], EXPONENTS[1], GAMMA_LIMITS[1], EXPONENTS[1]])
    held = np.array([y.min() + 2 * LEAST] * 3 + [0.0] * 3)  # 1e-6 of the score: no term
    return np.where(free, low, held), np.where(free, high, held)


def project(points: Points, free: Flags, limits: tuple[Array, Array]) -> Array:
    """Returns the best starts [STARTS, 6] of a grid over the exponents, the rest by NNLS."""
    nodes = [NODES[i] if free[i] else (0.0,) for i in (ALPHA, GAMMA, BETA)]
    weight, found = np.exp(-points.y), list[tuple[float, ...]]()
    for exponents in product(*nodes):
        columns = np.stack([*shapes(np.array(exponents), points.x)], 1)
        columns = np.where(free[[E, A, B]], columns, 0) * weight[:, None]
        coefficients, residual = optimize.nnls(columns, np.ones(len(weight)))
        found.append((residual, *coefficients, *exponents))
    best = np.array(sorted(found)[:STARTS])[:, 1:]
    best[:, :3] = np.log(np.maximum(best[:, :3], np.exp(2 * LEAST + points.y.min())))
    # A log cannot leave its lower limit: a coefficient that NNLS set to 0 starts at a hundredth.
    best[:, :3] = np.maximum(best[:, :3], points.y.min() - np.log(100))
    return np.asarray(np.clip(best, *limits))


def evaluate(theta: Array, points: Points, n: Array, t: Array, d: Array) -> Array:
    """Returns the laws' scores [..., K] at K sizes, tokens and images."""
    x = np.log(np.stack(np.broadcast_arrays(n, t, d))) - points.centre[:, None]
    return np.asarray(terms_of(theta, x).sum(0))
