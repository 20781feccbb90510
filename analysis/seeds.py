"""Means over the seeds of a recipe: a 95 % interval by the noise of all, as a bar or as a band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from analysis.memo import remembered
from analysis.table import RUN

LEAST = 2  # degrees of freedom of a spread: with one, t is 12.7
# Rows that agree in these are one curve.
SERIES = ["study", *(name for name in RUN if name not in ("study", "source", "run", "seed"))]


@remembered
def over_seeds(
    rows: pd.DataFrame, x: str = "step", every: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Returns one row per recipe and x: the mean, its 95 % interval, and the number of seeds.

    Incomplete seeds of a recipe with complete ones are left out. The interval is that of t with
    the spread of all recipes of a study at that step and patch size, those of `every`, of which
    `rows` are a part: a few seeds tell little of their own. The spread is a share
    of the score, or where a score has no logarithm a difference. Of one seed the interval is its
    score.
    """
    logs = bool((rows if every is None else every)["value"].gt(0).all())
    found = means(rows, x, logs)
    half = half_widths(found, found if every is None else means(every, x, logs))
    low, high = (
        found["value"] * np.exp(sign * half) if logs else found["value"] + sign * half
        for sign in (-1, 1)
    )
    return found.assign(low=low, high=high).drop(columns="sd")


def means(rows: pd.DataFrame, x: str, logs: bool) -> pd.DataFrame:
    """Returns one row per recipe and x: mean, number of seeds, and `sd` of scores or their logs."""
    by = recipe_of(rows, x)
    whole = rows.groupby(by, dropna=False)["complete"].transform("any")
    rows = rows[rows["complete"] | ~whole]
    rows = rows.assign(scaled=np.log(rows["value"]) if logs else rows["value"])
    keys = [*by, *({x, "step"} & {*rows})]  # one score of a seed at a step
    groups = rows.groupby(keys, dropna=False, sort=False, observed=True)
    # Both have the groups in the order of their first rows.
    found = rows[~rows.duplicated(keys)].drop(columns="scaled").reset_index(drop=True)
    return found.assign(
        value=groups["value"].mean().to_numpy(),
        seeds=groups["value"].size().to_numpy(),
        sd=groups["scaled"].std().to_numpy(),
    )


def recipe_of(rows: pd.DataFrame, x: str) -> list[str]:
    return [name for name in (*SERIES, "recipe", "protocol") if name in rows and name != x]


def half_widths(found: pd.DataFrame, of: pd.DataFrame) -> pd.Series:
    """Returns half of each mean's interval by the spread in `of`; 0 of a single seed.

    It is the spread at the step and patch size. Where one recipe alone has seeds there, it is that
    of all steps at the patch, whose degrees of freedom are those of the runs: checkpoints of a run
    share its luck. Where that has fewer than 2, it is that of all patches.
    """
    spare = of.assign(df=of["seeds"] - 1)
    spare["squares"] = spare["df"] * spare["sd"].fillna(0) ** 2
    # Predictions have no step.
    at, patch = (
        [n for n in by if n in of] for by in (("study", "step", "patch"), ("study", "patch"))
    )
    spreads = [here(spare, at), overall(spare, patch), overall(spare, ["study"])]
    variance, df = (pd.Series(np.nan, found.index) for _ in range(2))
    for known in spreads:
        by = [name for name in known.index.names if name]
        own = found[by].merge(known.reset_index(), "left", on=by).set_axis(found.index)
        taken = variance.isna() & own["df"].ge(LEAST if known is not spreads[-1] else 1)
        variance, df = variance.mask(taken, own["variance"]), df.mask(taken, own["df"])
    half = stats.t.ppf(0.975, df.fillna(1)) * np.sqrt(variance.fillna(0) / found["seeds"])
    return half.where(found["seeds"] > 1, 0.0)


def here(spare: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns variance and degrees of freedom where several recipes have seeds, else 0 of these."""
    groups = spare.groupby(by, dropna=False)
    total = groups[["df", "squares"]].sum()
    several = groups["df"].agg(lambda each: each.gt(0).sum()) > 1
    return total.assign(variance=total["squares"] / total["df"], df=total["df"].where(several, 0))


def overall(spare: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Returns the variance over seeds at all steps, and the degrees of freedom of the runs."""
    total = spare.groupby(by, dropna=False)[["df", "squares"]].sum()
    once = spare.sort_values("df").drop_duplicates(recipe_of(spare, "step"), keep="last")
    runs = once.groupby(by, dropna=False)["df"].sum()
    return pd.DataFrame({"variance": total["squares"] / total["df"], "df": runs})


def draw_interval(ax: Axes, curve: pd.DataFrame, x: str, colour: Any, linestyle: Any) -> None:
    """Draws the intervals of means over several seeds: a band along a curve, a bar at a point."""
    if (curve["seeds"] < 2).all():
        return
    if len(curve) > 1 and linestyle != "none":
        ax.fill_between(curve[x], curve["low"], curve["high"], color=colour, alpha=0.18, lw=0)
        return
    ends = np.abs(curve[["low", "high"]].to_numpy(float).T - curve["value"].to_numpy(float))
    ax.errorbar(curve[x], curve["value"], ends, fmt="none", color=colour, lw=1, capsize=2)
