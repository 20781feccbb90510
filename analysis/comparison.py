"""Two studies side by side: where they differ, and whether by more than the noise of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.correlation import correlation
from analysis.grid import final, grid
from analysis.table import TableError, listed, published

# Values are comparable between studies with these alike; otherwise ranks and correlations are.
COMPARABLE = ["features", "n", "data"]
CELL = ["size", "patch"]


def seed_spread(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Returns seeds, mean and relative standard deviation per model and step with several seeds.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    rows = grid(table, metric, protocol)
    with np.errstate(invalid="ignore", divide="ignore"):
        rows = rows.assign(log=np.log(rows["value"]))
    spread = rows.groupby(["study", "model", "step"], as_index=False, sort=False).agg(
        seeds=("log", "size"), mean=("value", "mean"), relative_sd=("log", "std")
    )
    return spread[spread["seeds"] > 1]


def noise(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> tuple[float, str]:
    """Returns the relative standard deviation of one run's score, and what it was measured on.

    NaN without seeds; FID through Inception then has the public reruns of the paper's models.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    spread = seed_spread(table, metric, protocol)
    if len(spread):
        pooled = np.average(spread["relative_sd"] ** 2, weights=spread["seeds"] - 1)
        origin = f"{spread['seeds'].sum()} runs of {len(spread)} models over seeds"
        return float(np.sqrt(pooled)), origin
    if metric == "fid" and set(table["features"]) & {"inception"}:
        reruns = rerun_differences()
        # Each is a difference of two runs, so it has twice the variance of one.
        deviation = float(np.sqrt((reruns**2).mean() / 2))
        return deviation, f"{len(reruns)} public reruns of the paper's models"
    return float("nan"), "no seeds, so the noise is not known: train one model with three"


def rerun_differences() -> pd.Series:
    """Returns log(rerun / paper) of every public rerun of a model of the paper's grid."""
    table = published()
    reruns = table[table["protocol"] == "rerun"]
    paper = final(table).set_index("model")["value"]
    return (reruns["value"] / reruns["model"].map(paper)).apply(np.log)


def compare(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """Returns both scores and ranks by size and patch; ratio, noise band and verdict if comparable.

    Raises:
        TableError: no size and patch in both, or rows that cannot share an axis.
    """
    both = final(a, metric).merge(final(b, metric), on=CELL, suffixes=("_a", "_b"))
    if both.empty:
        raise TableError(
            f"no size and patch in both studies ({listed(a['size'])} and {listed(b['size'])})"
        )
    rows = both[[*CELL, "model_a", "value_a", "model_b", "value_b"]].assign(
        rank_a=both["value_a"].rank(), rank_b=both["value_b"].rank()
    )
    if differences(a, b, metric):
        return rows
    deviations = np.array([noise(table, metric)[0] for table in (a, b)])
    variances = deviations**2 / both[["seeds_a", "seeds_b"]].to_numpy()
    return rows.assign(**verdicts(both["value_a"] / both["value_b"], np.sqrt(variances.sum(1))))


def verdicts(ratio: pd.Series, deviation: np.ndarray) -> dict[str, Any]:
    """Returns ratio, the 95 % band that noise alone explains, and whether the ratio is within."""
    band = 1.96 * deviation
    within = np.where(np.abs(np.log(ratio)) <= band, "within noise", "differs")
    verdict = np.where(np.isnan(band), "noise not known", within)
    return {"ratio": ratio, "low": np.exp(-band), "high": np.exp(band), "verdict": verdict}


def differences(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """Lists why the two studies' scores are not the same quantity; empty if they are.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    first, second = (grid(table, metric).iloc[0] for table in (a, b))
    both = pd.DataFrame([first, second])
    return [
        f"{field} ({listed(both[field])})" for field in COMPARABLE if first[field] != second[field]
    ]


def comparison_sentences(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """States how the two studies compare: ranks, correlations, verdicts, noise.

    Raises:
        TableError: no size and patch in both, or rows that cannot share an axis.
    """
    rows, reasons = compare(a, b, metric), differences(a, b, metric)
    ranks = rows["value_a"].corr(rows["value_b"], method="spearman")
    sentences = [
        f"{len(rows)} models are in both, by size and patch; Spearman of their scores is"
        f" {ranks:.2f}."
    ]
    if len(rows) > 2:
        sentences.append(correlations_sentence(a, b, metric))
    if reasons:
        differ = " and ".join(reasons)
        return [
            *sentences,
            f"The values themselves are not comparable: the studies differ in {differ}.",
        ]
    noises = [
        f"Noise of {listed(table['study'])}: {noise_text(*noise(table, metric))}."
        for table in (a, b)
    ]
    return [*sentences, verdicts_sentence(rows), *noises]


def verdicts_sentence(rows: pd.DataFrame) -> str:
    counted = rows["verdict"].value_counts().items()
    counts = ", ".join(f"{count} {verdict}" for verdict, count in counted)
    outside = rows.loc[rows["verdict"] == "differs", "model_a"]
    named = f" ({listed(outside)})" if len(outside) else ""
    return f"Of the values: {counts}{named}; chance alone makes 1 in 20 differ."


def noise_text(deviation: float, origin: str) -> str:
    return origin if np.isnan(deviation) else f"{deviation:.1%} of a score, from {origin}"


def correlations_sentence(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> str:
    first, second = (correlation(table, metric, statistics=["pearson"]).iloc[0] for table in (a, b))
    intervals = [
        f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in (first, second)
    ]
    overlap = first["low"] <= second["high"] and second["low"] <= first["high"]
    verb = "overlap" if overlap else "do not overlap"
    return f"Pearson with log Gflops: {intervals[0]} and {intervals[1]}; the 95 % intervals {verb}."
