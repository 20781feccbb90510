"""Figure 13: the training loss of millions of logged steps, as smooth curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from statsmodels.nonparametric.smoothers_lowess import lowess

from analysis.axes import panel_title, score_axis, step_axis
from analysis.curves import draw_curves, recipes, select
from analysis.models import with_family

# Bins of a curve: few enough that 5 million rows become 1,800 points.
BINS = 150
# The part of a curve that one of its points averages, by local lines.
SMOOTHED = 0.1
CURVE = "study model size patch conditioning batch_size lr others".split()
OF_RUN = (*CURVE, "seed")


def figure_13(log: pd.DataFrame, ax: Axes, **only: Any) -> Axes:
    """Draws the smoothed training loss over steps, the mean over seeds with its 95 % interval.

    The y limits leave out the first tenth: a fall from 1 would flatten all the rest.
    """
    every = smoothed(log).rename(columns={"loss": "value"})
    rows = select(every, only)
    late = every.loc[every["step"] > every["step"].max() / 10, "value"]
    step_axis(ax, every["step"])
    score_axis(ax, late)
    ax.set(ylabel="Training loss")
    ax.set_title(panel_title(only), loc="left")
    draw_curves(ax, rows, "step", every, noise=every, marker="", linewidth=1.1)
    return ax


def smoothed(log: pd.DataFrame) -> pd.DataFrame:
    """Returns the binned curves of every run, each point on a local line through a tenth of it.

    The seeds of a recipe have points at the same steps. Cleveland, J. Am. Stat. Assoc. 74, 1979;
    unlike a running mean it does not lag at the ends.
    """
    rows = binned(log)
    for _, curve in rows.groupby(named(rows, OF_RUN), dropna=False, observed=True, sort=False):
        # A local line needs more points than it has coefficients.
        share = max(SMOOTHED, min(4 / len(curve), 1))
        loss = lowess(curve["loss"], curve["step"], share, it=0, return_sorted=False)
        rows.loc[curve.index, "loss"] = np.where(np.isfinite(loss), loss, curve["loss"])
    groups = rows.groupby(named(rows, CURVE), dropna=False, observed=True, sort=False)
    rows = pd.concat([at_same_steps(recipe) for _, recipe in groups], ignore_index=True)
    return with_recipe(with_family(rows)).assign(complete=True, source="measured")


def at_same_steps(recipe: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs of a recipe at the steps of the longest one, as far as each has come."""
    if "seed" not in recipe or recipe["seed"].nunique() < 2:
        return recipe
    runs = [run for _, run in recipe.groupby("seed", sort=False)]
    steps = max(runs, key=lambda run: run["step"].max())["step"].to_numpy()
    found = []
    for run in runs:
        own = steps[(steps >= run["step"].min()) & (steps <= run["step"].max())]
        first = run.iloc[[0] * len(own)]
        found.append(first.assign(step=own, loss=np.interp(own, run["step"], run["loss"])))
    return pd.concat(found)


def named(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name in rows]


def with_recipe(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns curves with what varies between those of one model, such as 'lr 0.003'."""
    others = rows["others"].astype(str) if "others" in rows else ""
    rows = rows.assign(others=others, lr=rows.get("lr", np.nan))
    return rows.assign(recipe=recipes(rows, "model"))


def binned(log: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Averages step and loss of a run over bins of equally many logged rows.

    The longest curve has `bins` of them, a shorter one as many fewer, so that every bin holds at
    least half as many rows as the fullest. Sums are numpy's, because a groupby of 5 million rows
    takes seconds.
    """
    by = named(log, OF_RUN)
    curve = log.groupby(by, observed=True, dropna=False, sort=False).ngroup().to_numpy()
    step, loss = log["step"].to_numpy(), log["loss"].to_numpy(np.float64)
    order = np.lexsort((step, curve))
    lengths = np.bincount(curve)
    starts = np.cumsum(lengths) - lengths
    counts = np.maximum(np.round(bins * lengths / lengths.max()), 1).astype(np.int64)
    counts = np.minimum(counts, lengths)
    sorted_curve = curve[order]
    rank = np.arange(len(order)) - starts[sorted_curve]
    places = sorted_curve * bins + rank * counts[sorted_curve] // lengths[sorted_curve]
    held, step_sum, loss_sum = (
        np.bincount(places, weights) for weights in (None, step[order], loss[order])
    )
    filled = np.flatnonzero(held)
    first = order[starts[filled // bins]]
    rows = log.iloc[first][[*by, "gflops"]].reset_index(drop=True)
    return rows.assign(
        step=step_sum[filled] / held[filled],
        loss=loss_sum[filled] / held[filled],
        rows=held[filled],
    )
