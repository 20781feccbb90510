"""What the panels share: curves and bubbles with labels, limits, and the name of an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors as mcolors
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis import style
from analysis.grid import axis_label
from analysis.table import RUN


def draw_curves(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    log: bool = False,
    palette: Mapping[str, str] | None = None,
    **line: Any,
) -> None:
    """Draws one line per run, and labels the end of each model's, or of each conditioning's.

    A palette gives the colours of conditionings, whose names are then the labels.
    """
    name = "conditioning" if palette else "model"
    columns = [column for column in RUN if column in rows]
    colours: dict[str, Any] = {}
    for _, run in rows.groupby(columns, sort=False, dropna=False, observed=True):
        label = run[name].iloc[0]
        colour = {"color": palette.get(label, style.OTHER)} if palette else {}
        properties = {**style.line_style(run.iloc[0]), **colour, **line}
        colours[label] = properties["color"]
        ax.plot(run[x], run["value"], **properties, markeredgecolor=colours[label])
    ends = rows.groupby(list(dict.fromkeys(["study", "model", name])), observed=True).tail(1)
    ax.margins(x=0.1, y=0.1)
    if log:
        style.log_axis(ax)
    else:
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    texts = list(ends[name]) if palette else short_names(ends)
    style.label(ax, ends[x], ends["value"], texts, [colours[label] for label in ends[name]])


def draw_bubbles(ax: Axes, rows: pd.DataFrame, texts: list[str]) -> None:
    """Draws areas in proportion to Gflops, the largest 900 square points."""
    area = 900 * rows["gflops"] / rows["gflops"].max()
    ax.margins(x=0.3, y=0.2)
    for (_, row), size in zip(rows.iterrows(), area, strict=True):
        edge = style.line_style(row)["color"]
        face = mcolors.to_rgba(edge, 0.85 if row["source"] == "measured" else 0.18)
        colours = {"edgecolors": edge, "linewidths": 1, "label": row["model"]}
        ax.scatter(row["x"], row["value"], size, [face], **colours)
    inks = [style.INK] * len(rows)
    style.label(ax, rows["x"], rows["value"], texts, inks, np.sqrt(area / np.pi))


def set_score_limits(ax: Axes, rows: pd.DataFrame, right: float) -> None:
    """Starts both axes at 0, and leaves space for labels at the right."""
    ax.set_xlim(0, right * rows["step"].max())
    ax.set_ylim(0, 1.08 * rows["value"].max())


def score_label(rows: pd.DataFrame) -> str:
    """Returns the axis label, on two lines where one would be longer than a panel is high."""
    return style.literal(axis_label(rows).replace(", N", ",\nN"))


def short_names(rows: pd.DataFrame) -> list[str]:
    """Returns 'XL/2' for a model of a series: its point needs no family's name."""
    return [f"{size}/{patch:g}" for size, patch in zip(rows["size"], rows["patch"], strict=True)]
