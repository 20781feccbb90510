"""The law of the best learning rate: a power of size, and of the batch where that varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS, RegressionResults

from analysis.correlation import Array
from analysis.learning_rate_curve import quantile
from analysis.table import TableError, listed

# What size is counted in: trained parameters, the first that is known, is also that of the figure.
SIZES = {"params": "parameters", "gflops": "Gflops", "width": "width"}
BATCH = "batch_size"


@dataclass(frozen=True)
class RateLaw:
    """log lr* = c + Σ b log(axis / centre), by least squares of the optima inside their grids.

    `spreads` are variances of an optimum with their degrees of freedom: the scatter about the law,
    and the error that each has by the noise of its scores. `common` is how the coefficients move
    with the skew of all curves.
    """

    axes: list[str]
    centre: Array  # logs
    fit: RegressionResults
    spreads: list[tuple[float, float]]
    common: Array
    rows: pd.DataFrame

    def half(self, row: Array, more: float = 0.0) -> float:
        """Returns half of the 95 % interval of a sum of coefficients, the wider by both spreads.

        A few optima may lie on a line by chance, and their errors do not know what a power law
        misses. `more` is the variance of a new optimum, in units of that of one.
        """
        leverage, shared = row @ self.fit.normalized_cov_params @ row + more, row @ self.common
        halves = [
            quantile(df) * np.sqrt(variance * leverage + shared**2)
            for variance, df in self.spreads
            if df > 0
        ]
        return float(max(halves))

    def exponent(self, axis: str) -> tuple[float, float, float]:
        """Returns an exponent and its 95 % interval."""
        place = self.axes.index(axis) + 1
        value, half = float(self.fit.params[place]), self.half(np.eye(len(self.axes) + 1)[place])
        return value, value - half, value + half

    def at(self, *values: float) -> tuple[float, float, float]:
        """Returns the best rate of a new model, in the order of `axes`, and its 95 % interval."""
        row = np.concatenate([[1.0], np.log(values) - self.centre])
        value, half = float(row @ self.fit.params), self.half(row, 1.0)
        value, low, high = np.exp([value, value - half, value + half])
        return float(value), float(low), float(high)


def fit(optima: pd.DataFrame, size: str = "params") -> RateLaw:
    """Fits the optima of one setting.

    The interval is by the scatter of the optima about the law, which has the noise of each and what
    a power law misses, or by that noise alone where it is wider.

    Raises:
        TableError: too few optima inside their grids, or sizes and batches that vary together.
    """
    rows = optima[optima["edge"].eq("") & (optima[size].gt(0))]
    axes = [name for name in (size, BATCH) if rows[name].nunique() > 1 and rows[name].gt(0).all()]
    require_enough(optima, rows, axes, size)
    logs = np.log(rows[axes].to_numpy(float))
    columns = np.column_stack([np.ones(len(rows)), logs - logs.mean(0)])
    if np.linalg.matrix_rank(columns, tol=1e-6) < columns.shape[1]:
        raise TableError("size and batch vary together: sweep both batches at one size")
    found = OLS(np.log(rows["lr"].to_numpy(float)), columns).fit()
    own = float((rows["error"] ** 2).mean()), float(rows["df"].iloc[0])
    common = np.linalg.pinv(columns) @ rows["by_skew"].to_numpy(float)
    spreads = [(float(found.scale), float(found.df_resid)), own]
    return RateLaw(axes, logs.mean(0), found, spreads, common, rows)


def require_enough(found: pd.DataFrame, rows: pd.DataFrame, axes: list[str], size: str) -> None:
    """
    Raises:
        TableError: naming how many optima there are, which are at an edge, and what is missing.
    """
    if found[size].le(0).all() or found[size].isna().all():
        raise TableError(f"no {SIZES[size]} of these models in the table: collect it again")
    edges = found[found["edge"].ne("")]
    if len(rows) < len(axes) + 2 or not axes:
        lacks = "" if edges.empty else f"; {edge_text(edges)}"
        several = "" if axes else ", all of one size and batch"
        raise TableError(
            f"a law of the best learning rate needs {max(len(axes), 1) + 2} optima inside their"
            f" grids, there are {len(rows)}{several}{lacks}: sweep lr for more sizes"
        )


def edge_text(edges: pd.DataFrame) -> str:
    """States the best rates that are no optimum, by what they are."""
    parts = [
        f"{listed(part['model'])} at {listed(part['best'])} ({edge})"
        for edge, part in edges.groupby("edge", sort=False)
    ]
    return f"no optimum inside: {', '.join(parts)}"
