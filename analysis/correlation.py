"""Correlations of a score with compute, and their intervals over models and over sizes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.grid import final
from analysis.table import TableError

Array = NDArray[np.float64]
DRAWS = 10_000
# Intervals are part of the report, so the draws behind them are the same each time it is written.
SEED = 0
MINUS = "\N{MINUS SIGN}"


def pearson(x: Array, y: Array, axis: int = -1) -> Array:
    """Over the last axis, without the p-value for which scipy's takes twenty times as long."""
    dx, dy = (v - v.mean(-1, keepdims=True) for v in (x, y))
    return np.asarray((dx * dy).sum(-1) / np.sqrt((dx**2).sum(-1) * (dy**2).sum(-1)))


def spearman(x: Array, y: Array, axis: int = -1) -> Array:
    """Pearson of the ranks, over the last axis."""
    return pearson(stats.rankdata(x, axis=-1), stats.rankdata(y, axis=-1))


def kendall(x: Array, y: Array, axis: int = -1) -> Array:
    """tau-b over the last axis, all draws at once: scipy takes one pair, and 4 s for 10,000."""
    dx, dy = (np.sign(v[..., :, None] - v[..., None, :]) for v in (x, y))
    products = (dx * dy).sum((-1, -2))
    return np.asarray(products / np.sqrt((dx**2).sum((-1, -2)) * (dy**2).sum((-1, -2))))


STATISTICS: dict[str, Callable[..., Array]] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": kendall,
}


def correlation(
    table: pd.DataFrame,
    metric: str = "fid",
    protocol: str | None = None,
    statistics: Iterable[str] = STATISTICS,
) -> pd.DataFrame:
    """Correlates a metric with log10 Gflops at the last step, one row per study and statistic.

    Columns low and high bound the 95 % BCa interval over models, size_low and size_high the
    interval over whole sizes.

    Raises:
        TableError: fewer than 3 models, no such score, or rows that cannot share an axis.
    """
    studies = final(table, metric, protocol).groupby("study")
    return pd.concat([correlate(rows, metric, statistics) for _, rows in studies])


def correlate(rows: pd.DataFrame, metric: str, statistics: Iterable[str]) -> pd.DataFrame:
    if len(rows) < 3:
        raise TableError(
            f"a correlation needs 3 models at one step, {metric} has {len(rows)}: train and score"
            " more"
        )
    x, y = np.log10(rows["gflops"].to_numpy()), rows["value"].to_numpy()
    # Without differences between the models a statistic is 0 / 0, and NaN is its value.
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        correlations = [
            {
                "statistic": name,
                "value": float(statistic(x, y)),
                **bca_interval(statistic, x, y),
                **size_interval(statistic, x, y, rows["size"]),
            }
            for name, statistic in STATISTICS.items()
            if name in statistics
        ]
    return pd.DataFrame(correlations).assign(
        metric=metric, n=len(rows), step=rows["step"].iloc[0], study=rows["study"].iloc[0]
    )


def bca_interval(statistic: Callable[..., Array], x: Array, y: Array) -> dict[str, float]:
    """Returns the 95 % BCa interval; NaN where resamples of one point have no correlation."""
    interval = stats.bootstrap(
        (x, y),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=DRAWS,
        method="BCa",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return {"low": float(interval.low), "high": float(interval.high)}


def size_interval(
    statistic: Callable[..., Array], x: Array, y: Array, sizes: pd.Series
) -> dict[str, float]:
    """Returns the 95 % interval over sizes drawn whole: models of one size are not independent.

    With four sizes it is coarse: they give 35 different draws, each computed once and counted as
    often as it came.
    """
    clusters = [np.flatnonzero(sizes == size) for size in sizes.unique()]
    draws = np.random.default_rng(SEED).integers(len(clusters), size=(DRAWS, len(clusters)))
    distinct, counts = np.unique(np.sort(draws), axis=0, return_counts=True)
    picked = [np.concatenate([clusters[i] for i in draw]) for draw in distinct]
    values = np.repeat([float(statistic(x[i], y[i])) for i in picked], counts)
    low, high = np.nanquantile(values, [0.025, 0.975])
    return {"size_low": float(low), "size_high": float(high)}


def correlation_text(rows: pd.DataFrame) -> str:
    """States correlations with their intervals and n; a perfect one has no BCa interval."""
    statements = []
    for _, row in rows.iterrows():
        bounds = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] < row["high"] else ""
        statements.append(f"{row['statistic'].capitalize()} {row['value']:.2f}{bounds}")
    return f"{', '.join(statements)}, n = {rows['n'].iloc[0]}".replace("-", MINUS)
