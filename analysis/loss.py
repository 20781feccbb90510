"""Figure 13: the training loss of millions of logged steps, as smooth curves."""

from __future__ import annotations

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


def figure_13(log: pd.DataFrame, ax: Axes, **only: Any) -> Axes:
    """Draws the smoothed training loss over steps.

    The y limits leave out the first tenth: a fall from 1 would flatten all the rest.
    """
    every = smoothed(log).rename(columns={"loss": "value"})
    rows = select(every, only)
    late = every.loc[every["step"] > every["step"].max() / 10, "value"]
    step_axis(ax, every["step"])
    score_axis(ax, late)
    ax.set(ylabel="Training loss")
    ax.set_title(panel_title(only), loc="left")
    draw_curves(ax, rows, "step", every, marker="", linewidth=1.1)
    return ax


def smoothed(log: pd.DataFrame) -> pd.DataFrame:
    """Returns the binned curves, each point on a local line through a tenth of its curve.

    Cleveland, J. Am. Stat. Assoc. 74, 1979; unlike a running mean it does not lag at the ends.
    """
    rows = binned(log)
    by = [name for name in CURVE if name in rows]
    for _, curve in rows.groupby(by, dropna=False, observed=True, sort=False):
        # A local line needs more points than it has coefficients.
        share = max(SMOOTHED, min(4 / len(curve), 1))
        loss = lowess(curve["loss"], curve["step"], share, it=0, return_sorted=False)
        rows.loc[curve.index, "loss"] = np.where(np.isfinite(loss), loss, curve["loss"])
    return with_recipe(with_family(rows)).assign(complete=True, source="measured")


def with_recipe(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns curves with what varies between those of one model, such as 'lr 0.003'."""
    others = rows["others"].astype(str) if "others" in rows else ""
    rows = rows.assign(others=others, lr=rows.get("lr", np.nan))
    return rows.assign(recipe=recipes(rows, "model"))


def binned(log: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Averages step and loss of a model over bins of equally many logged rows, all seeds together.

    The longest curve has `bins` of them, a shorter one as many fewer, so that every bin holds at
    least half as many rows as the fullest. Sums are numpy's, because a groupby of 5 million rows
    takes seconds.
    """
    by = [name for name in CURVE if name in log]
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
