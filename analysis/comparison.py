"""Two studies side by side: where they differ, and whether by more than the noise of training."""

import numpy as np
import pandas as pd

from analysis.fits import correlation
from analysis.tables import final, grid, listed, published

# Studies are comparable in value when these are the same; otherwise only ranks and correlations are.
COMPARABLE = ["features", "n", "data"]
CELL = ["size", "patch"]


def seed_spread(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Per model and step with several seeds: how many, the mean, and the relative standard deviation."""
    rows = grid(table, metric, protocol).assign(log=lambda rows: np.log(rows["value"]))
    spread = rows.groupby(["study", "model", "step"], as_index=False, sort=False).agg(
        seeds=("log", "size"), mean=("value", "mean"), relative_sd=("log", "std")
    )
    return spread[spread["seeds"] > 1]


def noise(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> tuple[float, str]:
    """The relative standard deviation of one training run's score, and where it is known from."""
    spread = seed_spread(table, metric, protocol)
    if len(spread):
        pooled = np.average(spread["relative_sd"] ** 2, weights=spread["seeds"] - 1)
        return float(
            np.sqrt(pooled)
        ), f"{spread['seeds'].sum()} runs of {len(spread)} models over seeds"
    if metric == "fid" and set(table["features"]) & {"inception"}:
        apart = rerun_differences()
        # Each is a difference of two runs, so it has twice the variance of one.
        return float(
            np.sqrt((apart**2).mean() / 2)
        ), f"{len(apart)} public reruns of the paper's models"
    return float("nan"), "no seeds, so the noise is not known: train one model with three"


def rerun_differences() -> pd.Series:
    """log(rerun / paper) of every public rerun of a model of the paper's grid."""
    table = published()
    reruns = table[table["protocol"] == "rerun"]
    paper = final(table).set_index("model")["value"]
    return (reruns["value"] / reruns["model"].map(paper)).apply(np.log)


def compare(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """Size by size and patch by patch: both scores, both ranks, the ratio, its noise band and the verdict."""
    both = final(a, metric).merge(final(b, metric), on=CELL, suffixes=("_a", "_b"))
    if both.empty:
        raise ValueError(
            f"no size and patch in both studies ({listed(a['size'])} and {listed(b['size'])})"
        )
    found = both[[*CELL, "model_a", "value_a", "model_b", "value_b"]].assign(
        rank_a=both["value_a"].rank(), rank_b=both["value_b"].rank()
    )
    if differing(a, b, metric):
        return found
    one = np.array([noise(table, metric)[0] for table in (a, b)])
    band = 1.96 * np.sqrt((one**2 / both[["seeds_a", "seeds_b"]].to_numpy()).sum(1))
    apart = np.abs(np.log(both["value_a"].to_numpy() / both["value_b"].to_numpy()))
    verdict = np.where(
        np.isnan(band), "noise not known", np.where(apart <= band, "within noise", "differs")
    )
    return found.assign(
        ratio=both["value_a"] / both["value_b"],
        low=np.exp(-band),
        high=np.exp(band),
        verdict=verdict,
    )


def differing(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """Why the two studies' scores are not the same quantity; empty if they are."""
    first, second = (grid(table, metric).iloc[0] for table in (a, b))
    both = pd.DataFrame([first, second])
    return [
        f"{field} ({listed(both[field])})" for field in COMPARABLE if first[field] != second[field]
    ]


def in_words(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """The comparison in sentences."""
    found, apart = compare(a, b, metric), differing(a, b, metric)
    ranks = found["value_a"].corr(found["value_b"], method="spearman")
    words = [
        f"{len(found)} models are in both, by size and patch; Spearman of their scores is {ranks:.2f}."
    ]
    words += [_correlations(a, b, metric)] if len(found) > 2 else []
    if apart:
        return [
            *words,
            f"The values themselves are not comparable: the studies differ in {' and '.join(apart)}.",
        ]
    counts = ", ".join(
        f"{count} {verdict}" for verdict, count in found["verdict"].value_counts().items()
    )
    outside = found.loc[found["verdict"] == "differs", "model_a"]
    words.append(
        f"Of the values: {counts}{f' ({listed(outside)})' if len(outside) else ''}; chance alone makes 1 in 20 differ."
    )
    return [
        *words,
        *(
            f"Noise of {listed(table['study'])}: {_noise_in_words(*noise(table, metric))}."
            for table in (a, b)
        ),
    ]


def _noise_in_words(spread: float, known_from: str) -> str:
    return known_from if np.isnan(spread) else f"{spread:.1%} of a score, from {known_from}"


def _correlations(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> str:
    first, second = (correlation(table, metric, statistics=["pearson"]).iloc[0] for table in (a, b))
    overlap = first["low"] <= second["high"] and second["low"] <= first["high"]
    return (
        f"Pearson with log Gflops: {first['value']:.2f} [{first['low']:.2f}, {first['high']:.2f}] and "
        f"{second['value']:.2f} [{second['low']:.2f}, {second['high']:.2f}]; the 95 % intervals "
        f"{'overlap' if overlap else 'do not overlap'}."
    )
