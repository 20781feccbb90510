"""Panels over training: the joint law through all checkpoints, its residuals, running curves."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import style
from analysis.axes import compute_axis, label_score, log_axis, score_axis, set_title
from analysis.curves import draw_curves
from analysis.diagnostics import bends
from analysis.figures import COMPUTE
from analysis.grid import grid
from analysis.joint import Joint, evaluate, fit, points_of
from analysis.rows import attempt
from analysis.running import running
from analysis.statistics_panels import HELD, MISSED
from analysis.table import TableError

KNOTS = 40  # of a curve


def joint_law(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws every checkpoint over training compute, and the law's curve of each model.

    Raises:
        TableError: no family has enough runs, or scores at two steps.
    """
    every, laws = grid(table, metric), fitted(table, metric)
    for law in laws:
        for _, model in law.points.rows.groupby("model", sort=False):
            draw_curve(ax, law, model)
    rows = pd.concat([law.points.rows for law in laws])
    compute_axis(ax, rows["compute"])
    score_axis(ax, rows["value"])
    draw_curves(ax, rows, "compute", every, linestyle="none")
    ax.set(xlabel=COMPUTE)
    label_score(ax, every)
    ax.set_title("the joint law", loc="left")
    return ax


def fitted(table: pd.DataFrame, metric: str) -> list[Joint]:
    """Returns the law of every family that has one.

    Raises:
        TableError: none has, or all scores are at one step: then there is no curve.
    """
    reasons = list[str]()
    points = points_of(table, metric)
    laws = [attempt("the law", partial(fit, part), reasons) for part in points]
    found = [law for law in laws if law and law.points.rows["step"].nunique() > 2]
    if not found:
        raise TableError(
            reasons[0].rstrip(".")
            if reasons
            else "the law's curves need scores at three steps: score earlier checkpoints"
        )
    return found


def draw_curve(ax: Axes, law: Joint, model: pd.DataFrame) -> None:
    """Draws the law of one model over the images it was scored at."""
    images = np.geomspace(model["D"].min(), model["D"].max(), KNOTS)
    first = model.iloc[0]
    n, t = np.full(KNOTS, first["N"]), np.full(KNOTS, first["T"])
    compute = images / first["D"] * first["compute"]
    scores = evaluate(law.theta, law.points, n, t, images)
    ax.plot(compute, scores, color=style.SOFT, lw=0.9, zorder=1, label=f"_law of {first['model']}")


def joint_residuals(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws each checkpoint's score by what the law says, over training compute.

    Raises:
        TableError: no family has enough runs, or scores at two steps.
    """
    every, laws = grid(table, metric), fitted(table, metric)
    parts = [law.points.rows.assign(value=np.exp(law.residuals)) for law in laws]
    rows = pd.concat(parts)
    compute_axis(ax, rows["compute"])
    reach = 1.15 * float(np.exp(np.abs(np.log(rows["value"])).max()))
    log_axis(ax.yaxis, 1 / reach, reach)
    ax.axhline(1, color=style.SOFT, lw=0.8, zorder=0, label="the law")
    draw_curves(ax, rows, "compute", every, linestyle="none")
    ax.set(xlabel=COMPUTE, ylabel="Score / what the law says")
    worst = bends(laws[0]).head(1)
    refuted = len(worst) and worst["p"].iloc[0] < 0.05
    text = f"refuted: {worst['term'].iloc[0]}" if refuted else "no bend found"
    set_title(ax, text)
    return ax


def running_curves(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws each run's last score against what its first checkpoint and the other runs predicted.

    Raises:
        TableError: one step alone, or too few finished runs.
    """
    found = running(table, metric)
    found = found[found["truth"].notna() & found["step"].eq(found["step"].min())]
    held = found["truth"].between(found["low"], found["high"])
    low, high = found[["low", "truth"]].min().min(), found[["high", "truth"]].max().max()
    for inside, colour, text in ((True, HELD, "holds"), (False, MISSED, "misses")):
        part, shown = found[held == inside], f"interval {text} the score"
        if len(part):
            ends = part["truth"], part["low"], part["high"]
            ax.vlines(*ends, color=colour, alpha=0.35, label=shown)
    ax.plot(found["truth"], found["prediction"], "o", color=style.INK, ms=3, label="predicted")
    ax.plot([low, high], [low, high], color=style.SOFT, lw=0.8, zorder=0, label="as it came")
    log_axis(ax.yaxis, low / 1.15, high * 1.15)
    log_axis(ax.xaxis, found["truth"].min() / 1.15, found["truth"].max() * 1.15)
    label_score(ax, grid(table, metric))
    ax.set(xlabel=f"{ax.get_ylabel()}, as it came", ylabel=f"{ax.get_ylabel()}, predicted")
    first, last = found["step"].iloc[0], found["last"].iloc[0]
    ax.set_title(
        f"step {last:,.0f} from {first:,.0f}\n{held.sum()} of {len(held)} held", loc="left"
    )
    ax.legend(loc="upper left")
    return ax
