"""Log scores over the log of the learning rate: parabolas with one skew, and their minima."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.correlation import Array

PLACES = 2_000  # of a grid of rates: 0.1 % of a rate over a factor of 10


@dataclass(frozen=True)
class Curve:
    """Log scores in log rate about `centre`: coefficients of 1, x, x², x³, of which the last is
    that of all models; the noise is that of all.
    """

    centre: float
    coefficients: Array
    inverse: Array  # of the normal equations, [4, 4]
    variance: float  # NaN where no score is left over to tell it
    df: int

    def score(self, x: Array) -> Array:
        """Returns the log score at log rates."""
        return np.asarray(np.vander(x - self.centre, 4, increasing=True) @ self.coefficients)

    @property
    def vertex(self) -> float:
        """The log rate of the minimum; NaN where the curve has none."""
        _, slope, curve, skew = self.coefficients
        root = curve**2 - 3 * skew * slope
        # The smaller root of skew 3 x² + 2 curve x + slope, in the form that holds at skew 0.
        return float(self.centre - slope / (curve + np.sqrt(root))) if root > 0 else float("nan")

    @property
    def by_skew(self) -> float:
        """How far a standard error of the skew moves the minimum: that of all models, one way."""
        if not self.inverse[3, 3] > 0 or not self.variance >= 0:
            return 0.0
        x, (_, _, curve, skew) = self.vertex - self.centre, self.coefficients
        slope, bend = self.inverse[1, 3], self.inverse[2, 3]
        moved = (slope + 2 * x * bend) / self.inverse[3, 3] + 3 * x**2
        error = np.sqrt(self.variance * self.inverse[3, 3])
        return float(-moved / (2 * curve + 6 * skew * x) * error)

    @property
    def error(self) -> float:
        """The standard error of the log of the minimum at this skew, to first order."""
        x, (_, _, curve, skew) = self.vertex - self.centre, self.coefficients
        inverse, known = self.inverse, self.inverse[3, 3]
        if known > 0:
            inverse = inverse - np.outer(inverse[:, 3], inverse[3]) / known
        slope = np.array([0.0, 1.0, 2 * x, 0.0])
        spread = np.sqrt(self.variance * slope @ inverse @ slope)
        return float(spread / (2 * curve + 6 * skew * x))

    def bounds(self, first: float, last: float) -> tuple[float, float]:
        """Returns the 95 % interval of the minimum between two log rates, NaN if it reaches one.

        It holds the rates at which the slope may be 0 (Fieller, J. R. Stat. Soc. B 16, 1954): of a
        weak curvature a first-order interval is too short.
        """
        rates = np.linspace(first, last, PLACES)
        x = rates - self.centre
        rows = np.column_stack([0 * x, np.ones(PLACES), 2 * x, 3 * x**2])
        error = np.sqrt(self.variance * np.einsum("ij,jk,ik->i", rows, self.inverse, rows))
        refuted = np.abs(rows @ self.coefficients) > quantile(self.df) * error
        below, above = (
            rates[refuted & side] for side in (rates < self.vertex, rates > self.vertex)
        )
        if not self.df or not len(below) or not len(above):
            return float("nan"), float("nan")
        return float(below.max()), float(above.min())


def quantile(df: float) -> float:
    return float(stats.t.ppf(0.975, df)) if df > 0 else float("nan")


def points(near: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per rate: x about the best, mean y, runs, and the squares of these about it."""
    found = near.groupby("x")["y"].agg(["mean", "size", "var"]).reset_index()
    squares = found["var"].fillna(0) * (found["size"] - 1)
    return found.assign(centre=found.sort_values("mean")["x"].iloc[0], squares=squares)


def fit(models: list[pd.DataFrame]) -> list[Curve]:
    """Fits a parabola to each model, with one skew of all where the scores can tell it.

    Above its best rate a loss grows faster than below: parabolas alone put the minimum a quarter
    to a half of an octave too low (docs/laws.md). The noise is that of the means of each rate about
    the curves, so that many seeds do not hide a shape that is another; of as many rates as
    coefficients it is that of the seeds.
    """
    every, wide = pd.concat(models, keys=range(len(models))), 3 * len(models)
    x, weight = (every["x"] - every["centre"]).to_numpy(float), np.sqrt(every["size"].to_numpy())
    columns, model = np.zeros((len(x), wide + 1)), every.index.get_level_values(0)
    for power in range(3):
        columns[np.arange(len(x)), 3 * model + power] = x**power
    columns[:, -1] = x**3
    if np.linalg.matrix_rank(columns) == wide or len(x) <= wide + 1:
        columns[:, -1] = 0
    columns, y = columns * weight[:, None], every["mean"].to_numpy(float) * weight
    inverse = np.linalg.pinv(columns.T @ columns, rcond=1e-12)
    coefficients = inverse @ columns.T @ y
    variance, df = noise_of(every, y - columns @ coefficients, np.linalg.matrix_rank(columns))
    places = [[*range(3 * i, 3 * i + 3), wide] for i in range(len(models))]
    return [
        Curve(own["centre"].iloc[0], coefficients[at], inverse[np.ix_(at, at)], variance, df)
        for own, at in zip(models, places, strict=True)
    ]


def noise_of(every: pd.DataFrame, residuals: Array, rank: int) -> tuple[float, int]:
    """Returns the variance of one run and its degrees of freedom: NaN and 0 where none are."""
    df, squares = len(every) - rank, float((residuals**2).sum())
    if not df:
        df, squares = int((every["size"] - 1).sum()), float(every["squares"].sum())
    return (squares / df if df else float("nan")), df
