"""The coordinate check of muP: activations over width, their slopes, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from analysis.style import ACCENT, INK, em, small

# Log-log slope over width above which an activation grows. Measured on the embedded digits: at
# most 0.1 under muP; 1.0 of the output, from the first step on, where learning rates are not
# divided (tests/training/test_coordinates.py).
BOUND = 0.25
COLOURS = {"standard": ACCENT, "mup": INK}
COLUMNS = 4


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the mean over seeds: parametrization, module, step, width, value."""
    keys = ["parametrization", "module", "step", "width"]
    return table.groupby(keys, sort=False)["value"].mean().reset_index()


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """Returns log-log slopes over width: a row for each module, a column for each parametrization.

    Of each module the steepest of all steps. A step at which it is zero at some width, as the
    output and gates are before their first update, has no slope.
    """
    found: dict[tuple[str, str], float] = {}
    for keys, rows in means(table).groupby(["parametrization", "module", "step"]):
        kind, module, _ = map(str, keys)
        if (rows["value"] > 0).all():
            slope = float(np.polyfit(np.log(rows["width"]), np.log(rows["value"]), 1)[0])
            found[kind, module] = max(slope, found.get((kind, module), -np.inf))
    order = list(dict.fromkeys(table["module"]))
    return pd.Series(found).unstack(level=0).reindex(order).rename_axis("module")


def growing(found: pd.DataFrame, kind: str = "mup", bound: float = BOUND) -> list[str]:
    """Returns the modules whose slope is above the bound."""
    return list(found.index[found[kind] > bound])


def figure(table: pd.DataFrame) -> Figure:
    """Draws a panel for each module: activation over width, a line for each step."""
    rows, modules = means(table), list(dict.fromkeys(table["module"]))
    down = -(-len(modules) // COLUMNS)
    width = plt.rcParams["figure.figsize"][0]
    fig, axes = plt.subplots(
        down, COLUMNS, figsize=(width, down * width / 5.2), sharex=True, squeeze=False
    )
    for ax, module in zip(axes.flat, modules, strict=False):
        draw(ax, rows[rows["module"].eq(module)])
        ax.set_title(module, fontweight="normal", fontsize=small())
    for ax in axes.flat[len(modules) :]:
        ax.set_axis_off()
    for ax in axes.flat[max(0, len(modules) - COLUMNS) : len(modules)]:
        ax.tick_params(labelbottom=True)
    legend(fig, sorted(set(rows["step"])))
    fig.supxlabel("width", fontsize=plt.rcParams["font.size"])
    fig.supylabel("mean |activation|", fontsize=plt.rcParams["font.size"])
    fig.tight_layout(rect=(0, 0, 1, 1 - 2.2 * em() / fig.get_figheight()))
    fig.set_label(
        "Mean |activation| of each kind of module over width, before and after the first steps."
    )
    return fig


def draw(ax: Axes, rows: pd.DataFrame) -> None:
    """Draws one module: darker with each step; zero is left out."""
    last = rows["step"].max()
    for keys, line in rows[rows["value"] > 0].groupby(["parametrization", "step"]):
        kind, step = cast(tuple[str, int], keys)
        shade = 0.25 + 0.75 * step / max(last, 1)
        ax.plot(line["width"], line["value"], "o-", color=COLOURS[kind], alpha=shade)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_ylim()
    middle = np.sqrt(low * high)  # at least a factor of 30, so that noise is not drawn as growth
    ax.set_ylim(min(low, middle / 5.5), max(high, middle * 5.5))


def legend(fig: Figure, steps: Sequence[int]) -> None:
    """Names the colours, and says what the shades are."""
    lines = [
        Line2D([], [], color=COLOURS[kind], marker="o", label=name)
        for kind, name in (("standard", "standard"), ("mup", "muP"))
    ]
    shades = f"light to dark: after {steps[0]} to {steps[-1]} steps"
    note = Line2D([], [], linestyle="", label=shades)
    fig.legend(handles=[*lines, note], loc="upper center", ncols=3)
