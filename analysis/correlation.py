"""Correlations of a score with compute, and their intervals over models, sizes and patches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.grid import final
from analysis.memo import remembered
from analysis.table import TableError, listed

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


@remembered
def correlation(
    table: pd.DataFrame,
    metric: str = "fid",
    protocol: str | None = None,
    statistics: Iterable[str] = STATISTICS,
) -> pd.DataFrame:
    """Correlates a metric with log10 Gflops at the last step: a row per study, family, statistic.

    Columns low and high bound the 95 % interval over models by the method in `method` (NaN of fewer
    than 4 models, and at ±1). `bca_interval` is Pearson's other one.

    Raises:
        TableError: fewer than 3 models in every family, no such score, or rows that cannot share
            an axis.
    """
    rows = final(table, metric, protocol)
    families = [part for _, part in rows.groupby(["study", "family"], sort=False)]
    enough = [part for part in families if len(part) > 2]
    if not enough:
        counts = ", ".join(f"{len(part)} of {listed(part['family'])}" for part in families)
        counts = counts if len(families) > 1 else str(len(rows))
        raise TableError(
            f"a correlation needs 3 models at one step, {metric} has {counts}: train and score more"
        )
    return pd.concat([correlate(part, statistics) for part in enough]).assign(metric=metric)


def correlate(rows: pd.DataFrame, statistics: Iterable[str]) -> pd.DataFrame:
    x, y = axes_of(rows)
    # Without differences between the models a statistic is 0 / 0, and NaN is its value.
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {name: STATISTICS[name](x, y) for name in STATISTICS if name in statistics}
    correlations = [
        {"statistic": name, "value": float(value), **interval_of(name, x, y, float(value))}
        for name, value in values.items()
    ]
    same = {name: rows[name].iloc[0] for name in ("step", "study", "family")}
    return pd.DataFrame(correlations).assign(n=len(rows), **same)


def axes_of(rows: pd.DataFrame) -> tuple[Array, Array]:
    """Returns log10 Gflops and scores of the rows that `final` gives."""
    return np.log10(rows["gflops"].to_numpy()), rows["value"].to_numpy()


def interval_of(statistic: str, x: Array, y: Array, value: float) -> dict[str, Any]:
    """Returns the 95 % interval of a correlation over models, and how it was made.

    Kendall's Fisher z (Fieller, Hartley and Pearson, 1957) covers 79 % to 95 % of 12 models.
    """
    if statistic != "kendall":
        spread = 1 if statistic == "pearson" else 1 + value**2 / 2
        low, high = fisher_interval(value, len(x), spread)
        return {"low": low, "high": high, "method": "Fisher z"}
    others = np.array([np.delete(np.arange(len(x)), i) for i in range(len(x))])
    with np.errstate(invalid="ignore", divide="ignore"):
        half = jackknife_half(kendall(x[others], y[others]))
    low, high = np.clip([value - half, value + half], -1, 1)
    return {"low": float(low), "high": float(high), "method": "jackknife-t over models"}


def fisher_interval(value: float, n: int, spread: float = 1) -> tuple[float, float]:
    """Returns the 95 % interval of a correlation of n models by Fisher's z.

    Its variance is spread / (n − 3): 1 of Pearson, 1 + r² / 2 of Spearman (Bonett and Wright,
    Psychometrika 65, 2000).
    """
    if n < 4 or not abs(value) < 1:
        return float("nan"), float("nan")
    half = stats.norm.ppf(0.975) * np.sqrt(spread / (n - 3))
    low, high = np.tanh(np.arctanh(value) + [-half, half])
    return float(low), float(high)


def jackknife_half(without: Array) -> float:
    """Returns half the 95 % jackknife-t interval from the estimates without each of k groups."""
    k = len(without)
    spread = np.sqrt((k - 1) / k * ((without - without.mean()) ** 2).sum())
    return float(stats.t.ppf(0.975, k - 1) * spread)


def bca_interval(x: Array, y: Array, rng: int = SEED) -> dict[str, float]:
    """Returns Pearson's 95 % BCa interval, and as `error` what this number of draws leaves open.

    That is the larger standard error of the two bounds. NaN where resamples of one point have no
    correlation.
    """
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = stats.bootstrap(
            (x, y),
            pearson,
            paired=True,
            vectorized=True,
            n_resamples=DRAWS,
            method="BCa",
            rng=np.random.default_rng(rng),
        )
    low, high = found.confidence_interval
    draws = found.bootstrap_distribution
    error = max(quantile_error(draws, bound) for bound in (low, high))
    return {"low": float(low), "high": float(high), "error": error}


def quantile_error(draws: Array, bound: float) -> float:
    """Returns the standard error of a quantile of the draws, from the order statistics beside it.

    Of B draws the rank of a quantile p has the standard error √(B p (1 − p)).
    """
    draws = draws[np.isfinite(draws)]
    if not (len(draws) and np.isfinite(bound)):
        return float("nan")
    p = np.mean(draws <= bound)
    spread = np.sqrt(p * (1 - p) / len(draws))
    low, high = np.quantile(draws, np.clip([p - spread, p + spread], 0, 1))
    return float((high - low) / 2)


def decimals(error: float, most: int = 2) -> int:
    """Returns the decimals whose last one an error leaves alone: half a unit is above the error."""
    if not error > 0:
        return most
    return int(np.clip(np.floor(-np.log10(2 * error)), 0, most))


def jackknife_interval(
    estimate: Callable[[pd.DataFrame], float], rows: pd.DataFrame, by: str
) -> dict[str, Any]:
    """Returns the 95 % jackknife-t interval over groups of models left out whole.

    Models of one size, or of one patch, share what that size or patch does to a score, so that
    they are not independent (Miller, Biometrika 61, 1974).

    Raises:
        TableError: fewer than 3 groups.
    """
    groups = [name for name in rows[by].dropna().unique() if name != ""]
    if len(groups) < 3:
        raise TableError(f"a jackknife over {by} needs 3 of them, there are {len(groups)}")
    whole = estimate(rows)
    half = jackknife_half(np.array([estimate(rows[rows[by] != name]) for name in groups]))
    return {"low": whole - half, "high": whole + half, "groups": len(groups)}


def difference(a: pd.Series, b: pd.Series) -> dict[str, float]:
    """Compares two studies' Pearson by Fisher's z: difference of z, its 95 % interval, p.

    `a` and `b` have the value and the n of `correlation`. NaN of fewer than 4 models, or at ±1.
    """
    if min(a["n"], b["n"]) < 4 or not max(abs(a["value"]), abs(b["value"])) < 1:
        return dict.fromkeys(("difference", "low", "high", "p"), float("nan"))
    error = np.sqrt(1 / (a["n"] - 3) + 1 / (b["n"] - 3))
    z = float(np.arctanh(a["value"]) - np.arctanh(b["value"]))
    half = float(stats.norm.ppf(0.975) * error)
    p = float(2 * stats.norm.sf(abs(z) / error))
    return {"difference": z, "low": z - half, "high": z + half, "p": p}


def correlation_text(rows: pd.DataFrame) -> str:
    """States correlations with their intervals and n, family by family where there are several."""
    parts = rows.groupby(["study", "family"], sort=False)
    texts = [
        (f"{family}: " if parts.ngroups > 1 else "") + text_of_one(part)
        for (_, family), part in parts
    ]
    return "; ".join(texts)


def text_of_one(rows: pd.DataFrame) -> str:
    """States the correlations of one family; a perfect one has no interval."""
    statements = []
    for _, row in rows.iterrows():
        bounds = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] < row["high"] else ""
        statements.append(f"{row['statistic'].capitalize()} {row['value']:.2f}{bounds}")
    return f"{', '.join(statements)}, n = {rows['n'].iloc[0]}".replace("-", MINUS)
