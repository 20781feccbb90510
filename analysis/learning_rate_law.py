"""The law of the best learning rate: a power of size, and of the batch where that varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS, RegressionResults

from analysis.learning_rates import quantile
from analysis.table import TableError, listed

# What size is counted in: trained parameters, the first that is known, is also that of the figure.
SIZES = {"params": "parameters", "gflops": "Gflops", "width": "width"}
BATCH = "batch_size"


@dataclass(frozen=True)
class RateLaw:
    """log lr* = c + Σ b log(axis / centre), by least squares of the optima inside their grids."""

    axes: list[str]
    centre: np.ndarray  # logs
    fit: RegressionResults
    rows: pd.DataFrame

    def exponent(self, axis: str) -> tuple[float, float, float]:
        """Returns an exponent and its 95 % interval, by t."""
        place = self.axes.index(axis) + 1
        low, high = self.fit.conf_int()[place]
        return float(self.fit.params[place]), float(low), float(high)

    def at(self, *values: float) -> tuple[float, float, float]:
        """Returns the best rate of a new model, in the order of `axes`, and its 95 % interval."""
        row = np.concatenate([[1.0], np.log(values) - self.centre])
        value = float(row @ self.fit.params)
        spread = np.sqrt(row @ self.fit.cov_params() @ row + self.fit.scale)
        half = quantile(self.fit.df_resid) * float(spread)
        low, value, high = np.exp([value - half, value, value + half])
        return float(value), float(low), float(high)


def fit(found: pd.DataFrame, size: str = "params") -> RateLaw:
    """Fits the optima of one setting.

    The scatter of the optima about the law sets the interval, with t at its degrees of freedom: it
    has the noise of each, and what a power law misses.

    Raises:
        TableError: too few optima inside their grids, or sizes and batches that vary together.
    """
    rows = found[found["edge"].eq("") & (found[size].gt(0))]
    axes = [name for name in (size, BATCH) if rows[name].nunique() > 1 and rows[name].gt(0).all()]
    require_enough(found, rows, axes, size)
    logs = np.log(rows[axes].to_numpy(float))
    columns = np.column_stack([np.ones(len(rows)), logs - logs.mean(0)])
    if np.linalg.matrix_rank(columns, tol=1e-6) < columns.shape[1]:
        raise TableError("size and batch vary together: sweep both batches at one size")
    return RateLaw(axes, logs.mean(0), OLS(np.log(rows["lr"].to_numpy(float)), columns).fit(), rows)


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
