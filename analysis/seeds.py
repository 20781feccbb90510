"""Means over the seeds of a recipe: a 95 % interval by the noise of all, as a bar or as a band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy import stats

from analysis.table import RUN

# Rows that agree in these are one curve.
SERIES = ["study", *(name for name in RUN if name not in ("study", "source", "run", "seed"))]


def over_seeds(rows: pd.DataFrame, x: str = "step") -> pd.DataFrame:
    """Returns one row per recipe and x: the mean, its 95 % interval, and the number of seeds.

    Incomplete seeds of a recipe with complete ones are left out. The interval is that of t with
    the spread of all recipes of a study at that step, for a few seeds tell little of their own: a
    share of the score, or where a score has no logarithm a difference. Of one seed it is its score.
    """
    by = [name for name in (*SERIES, "recipe", "protocol") if name in rows and name != x]
    whole = rows.groupby(by, dropna=False)["complete"].transform("any")
    rows = rows[rows["complete"] | ~whole]
    logs = bool(rows["value"].gt(0).all())
    rows = rows.assign(scaled=np.log(rows["value"]) if logs else rows["value"])
    groups = rows.groupby([*by, x], dropna=False, sort=False, observed=True)
    # Both have the groups in the order of their first rows.
    found = rows[~rows.duplicated([*by, x])].drop(columns="scaled").reset_index(drop=True)
    found = found.assign(
        value=groups["value"].mean().to_numpy(),
        seeds=groups["value"].size().to_numpy(),
        sd=groups["scaled"].std().to_numpy(),
    )
    half = half_widths(found)
    low, high = (
        found["value"] * np.exp(sign * half) if logs else found["value"] + sign * half
        for sign in (-1, 1)
    )
    return found.assign(low=low, high=high).drop(columns="sd")


def half_widths(found: pd.DataFrame) -> pd.Series:
    """Returns half of each mean's interval, on the scale of `sd`; 0 of a single seed."""
    spare = found.assign(df=found["seeds"] - 1)
    spare["squares"] = spare["df"] * spare["sd"].fillna(0) ** 2
    by = [name for name in ("study", "step") if name in found]  # predictions have no step
    total = spare.groupby(by)[["df", "squares"]].transform("sum")
    df = total["df"].where(total["df"] > 0, 1)
    half = stats.t.ppf(0.975, df) * np.sqrt(total["squares"] / df / found["seeds"])
    return half.where(found["seeds"] > 1, 0.0)


def draw_interval(ax: Axes, curve: pd.DataFrame, x: str, colour: Any, linestyle: Any) -> None:
    """Draws the intervals of means over several seeds: a band along a curve, a bar at a point."""
    if (curve["seeds"] < 2).all():
        return
    if len(curve) > 1 and linestyle != "none":
        ax.fill_between(curve[x], curve["low"], curve["high"], color=colour, alpha=0.18, lw=0)
        return
    ends = np.abs(curve[["low", "high"]].to_numpy(float).T - curve["value"].to_numpy(float))
    ax.errorbar(curve[x], curve["value"], ends, fmt="none", color=colour, lw=1, capsize=2)
