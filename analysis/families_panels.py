"""Panels of families: scores at equal training compute and parameters, and what each one needs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis import style
from analysis.axes import compute_axis, label_score, log_axis, score_axis
from analysis.curves import at_last_step, draw_curves
from analysis.families import AXES, models_of, offsets, parallel_test, placed, seen_from
from analysis.families_rows import by_score, kinds
from analysis.figures import COMPUTE, GFLOPS
from analysis.fitted_lines import draw_families
from analysis.rows import attempt
from analysis.table import TableError

AXIS_MARKERS = "PX*d"
TITLES = {"Gflops": GFLOPS, "training compute": COMPUTE, "parameters": "Parameters"}


def family_scores(table: pd.DataFrame, ax: Axes, axis: str, metric: str = "fid") -> Axes:
    """Draws the last scores over an axis, with the line of each family and its 95 % band.

    Raises:
        TableError: fewer than two families, or rows that cannot share an axis.
    """
    models, every = models_of(table, metric), placed(table, metric).assign(study="", recipe="")
    rows = at_last_step(every)
    rows = rows[rows[AXES[axis]].gt(0) & rows["model"].isin(models["model"])]
    compute_axis(ax, rows[AXES[axis]])
    score_axis(ax, rows["value"])
    ax.set(xlabel=TITLES[axis])
    label_score(ax, rows)
    draw_families(ax, models, style.inks(every)[1], axis, metric)
    if test := attempt("", partial(parallel_test, models, axis), []):
        ax.set_title(f"Equal exponents: p = {test['p']:.1g}", loc="left")
    draw_curves(ax, rows, AXES[axis], every, linestyle="none")
    return ax


def family_needs(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws how much each family needs for the score of the best, with 95 % intervals.

    Raises:
        TableError: fewer than two families, or too few models.
    """
    models, reasons = models_of(table, metric), list[str]()
    best = by_score(models, "Gflops", metric)
    inks = style.inks(placed(table, metric).assign(study=""))[1]
    made = {axis: attempt(axis, partial(offsets, models, axis), reasons) for axis in kinds(models)}
    found = {axis: seen_from(pairs, best[0]) for axis, pairs in made.items() if pairs is not None}
    if not found:
        raise TableError(reasons[0].rstrip("."))
    limits = pd.concat(found.values())[["multiple", "low", "high"]].to_numpy().ravel()
    limits = np.append(limits[np.isfinite(limits)], 1.0)
    log_axis(ax.xaxis, limits.min() / 1.5, limits.max() * 1.5, decades=True)
    for i, (axis, pairs) in enumerate(found.items()):
        for _, pair in pairs[pairs["family"].isin(best)].iterrows():
            height = best.index(pair["family"]) + 0.24 * (i - (len(found) - 1) / 2)
            draw_need(ax, pair, height, inks[pair["family"]], AXIS_MARKERS[i], axis)
    ax.axvline(1, color=style.SOFT, lw=0.8, zorder=0, label="_one")
    ax.plot([1], [0], "|", color=inks[best[0]], ms=12, mew=3, label=best[0])
    ax.set_yticks(range(len(best)), [style.literal(name) for name in best])
    ax.set_ylim(len(best) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=style.literal(f"Multiple of {best[0]}'s for the same score"))
    ax.legend(
        handles=axis_entries([*found]), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0
    )
    return ax


def draw_need(ax: Axes, pair: pd.Series, height: float, ink: str, marker: str, axis: str) -> None:
    """Draws a multiple with its interval; dotted where the lines alone give it."""
    dots, label = "-" if pair["common"] else ":", f"{pair['family']}, {axis}"
    ends = [pair["low"], pair["high"]]
    ax.plot(ends, [height] * 2, color=ink, lw=1.4, ls=dots, label=f"{label}, 95 %")
    ax.plot([pair["multiple"]], [height], marker, color=ink, ms=6, label=label)


def axis_entries(names: Sequence[str]) -> list[Line2D]:
    """Returns what is equal at each marker."""
    look: dict[str, Any] = {"color": style.INK, "ls": "none", "ms": 6}
    return [
        Line2D([], [], marker=marker, label=f"equal {name}", **look)
        for marker, name in zip(AXIS_MARKERS, names, strict=False)
    ]
