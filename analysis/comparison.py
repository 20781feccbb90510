"""Two studies cell by cell: where they differ, and whether by more than the noise of training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.grid import final, grid
from analysis.noise import Noise, noise, together
from analysis.table import HIGHER_IS_BETTER, TableError, listed

# Values are comparable between studies with these alike; otherwise ranks and correlations are.
COMPARABLE = (
    "features n data reference sampler sampling_steps guidance guidance_channels decoder weights"
    " labels step batch_size"
).split()
# Scores are called equivalent within this share of each other, and not within less.
MARGIN = 0.05
EQUIVALENT = f"equivalent within ±{MARGIN:.0%}".replace("%", " %")
# A reference is named with the digest of its file where that was known.
DIGEST = r"-[0-9a-f]{8}$"


def compare(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """Returns both scores and ranks by cell; ratio, noise band, p and verdict if comparable.

    A cell is a size and patch, of each family where a study has several; a model without both is
    met by its name. Low and high bound the ratio that noise alone explains, cell by cell at 95 %.
    The verdict is of the first study, by p adjusted for the number of cells (Holm): better, worse,
    equivalent within ±5 % (two one-sided tests, adjusted too), or inconclusive.

    Raises:
        TableError: no cell in both, or rows that cannot share an axis.
    """
    first, second = with_cells(final(a, metric), final(b, metric))
    both = first.merge(second, on="cell", suffixes=("_a", "_b"))
    if both.empty:
        raise TableError(
            "no size and patch, or model, of one family in both studies"
            f" ({listed(first['cell'])} and {listed(second['cell'])})"
        )
    shared = {"size_a": "size", "patch_a": "patch"}
    columns = ["size", "patch", "model_a", "value_a", "model_b", "value_b"]
    rows = both.rename(columns=shared)[columns].assign(
        rank_a=both["value_a"].rank(), rank_b=both["value_b"].rank()
    )
    if differences(a, b, metric):
        return rows
    noises = together(noise(a, metric), noise(b, metric))
    seeds = both[["seeds_a", "seeds_b"]].to_numpy()
    scales = zip(rows["patch"], both["gflops_a"], both["gflops_b"], seeds, strict=True)
    errors = [error_of(noises, patch, (a, b), n) for patch, a, b, n in scales]
    higher = metric in HIGHER_IS_BETTER
    return rows.assign(**verdicts(both["value_a"] / both["value_b"], np.array(errors), higher))


def with_cells(a: pd.DataFrame, b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows with the column cell, unique in each of them."""
    several = a["family"].nunique() > 1 or b["family"].nunique() > 1
    found = []
    for rows in (a, b):
        sized = rows["size"].ne("") & rows["patch"].notna()
        cell = (rows["size"] + "/" + rows["patch"].map("{:g}".format)).where(sized, rows["model"])
        cell = rows["family"] + " " + cell if several else cell
        if cell.duplicated().any():
            raise TableError(
                f"several models are one cell ({listed(cell[cell.duplicated()])}): give each a"
                " family of its own"
            )
        found.append(rows.assign(cell=cell))
    return found[0], found[1]


def error_of(
    noises: tuple[Noise, Noise], patch: float, gflops: tuple[float, float], seeds: np.ndarray
) -> tuple[float, float]:
    """Returns the standard error of a difference of logs and its degrees of freedom (Welch).

    Two studies whose noise is of the same runs have their degrees of freedom.
    """
    (first, df), (second, other_df) = (
        known.at(patch, size) for known, size in zip(noises, gflops, strict=True)
    )
    parts = np.array([first, second]) ** 2 / seeds
    error = float(np.sqrt(parts.sum()))
    if noises[0] is noises[1] or not error > 0:
        return error, min(df, other_df)
    return error, float(parts.sum() ** 2 / (parts**2 / [df, other_df]).sum())


def verdicts(
    ratio: pd.Series, errors: np.ndarray, higher_is_better: bool = False
) -> dict[str, Any]:
    """Returns ratio, the 95 % band that noise alone explains, p by Holm, and the verdict."""
    error, df = errors.T
    band, logs = stats.t.ppf(0.975, df) * error, np.log(ratio)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = holm(2 * stats.t.sf(np.abs(logs) / error, df))
        # Schuirmann's two one-sided tests: both ends of the margin are refuted.
        near = holm(stats.t.sf((np.log1p(MARGIN) - np.abs(logs)) / error, df))
    better = (logs > 0) == higher_is_better
    verdict = np.select(
        [np.isnan(band), (p < 0.05) & better, p < 0.05, near < 0.05],
        ["noise not known", "better", "worse", EQUIVALENT],
        "inconclusive",
    )
    return {"ratio": ratio, "low": np.exp(-band), "high": np.exp(band), "p": p, "verdict": verdict}


def holm(p: np.ndarray) -> np.ndarray:
    """Adjusts p values for their number (Holm, Scandinavian Journal of Statistics 6, 1979)."""
    order = np.argsort(p)
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return adjusted


def differences(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """Lists why the two studies' scores are not the same quantity; empty if they are.

    What one of them does not give does not count as a difference: `unstated` lists it.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    first, second = conditions(a, metric), conditions(b, metric)
    return [
        f"{field} ({', '.join([*first[field], *second[field]])})"
        for field in COMPARABLE
        if first[field] and second[field] and first[field] != second[field]
    ]


def unstated(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """Lists the fields of COMPARABLE that only one of the studies gives."""
    first, second = conditions(a, metric), conditions(b, metric)
    return [field for field in COMPARABLE if bool(first[field]) != bool(second[field])]


def conditions(table: pd.DataFrame, metric: str) -> dict[str, list[str]]:
    """Returns the values of each field of COMPARABLE at the last step; none where not given."""
    rows = grid(table, metric)
    rows = rows[rows["last"]]
    guided = rows["guidance"].gt(1)
    rows = rows.assign(
        guidance_channels=rows["guidance_channels"].where(guided),
        reference=rows["reference"].str.replace(DIGEST, "", regex=True),
    )
    kept = {
        field: rows.loc[rows[field].notna() & rows[field].ne(""), field] for field in COMPARABLE
    }
    return {
        field: sorted(listed(pd.Series([value])) for value in values.unique())
        for field, values in kept.items()
    }
