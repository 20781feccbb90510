"""The panels of each figure, how they are laid out, and the numbers that were drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures, style
from analysis.table import TableError

Panel = Callable[[Any, Axes], Axes]
Rows = tuple[tuple[Panel, ...], ...]
PAIRS = ("sfid", "inception_score", "precision", "recall")
# Inches of a figure, of one with a single panel, and of one row of panels.
WIDTH, NARROW, HEIGHT = 9.6, 6.6, 3.1


@dataclass(frozen=True)
class Layout:
    """A figure of the paper: its caption, the data it is drawn from, and its rows of panels."""

    caption: str
    rows: Rows
    source: Literal["table", "log", "samples"] = "table"
    height: float = HEIGHT


def panels_by_axis(panel: Callable[..., Axes]) -> Rows:
    """Returns one row of panels by patch and one by size."""
    by_patch = tuple(partial(panel, patch=patch) for patch in (8, 4, 2))
    return by_patch, tuple(partial(panel, size=size) for size in style.PALETTE)


def panels_by_metric() -> Rows:
    """Returns a row for each further metric: over training compute, and over Gflops."""
    return tuple(
        (partial(figures.figure_09, metric=metric), partial(figures.figure_08, metric=metric))
        for metric in PAIRS
    )


# {grid} becomes the score, protocol, step and n that are drawn, {correlation} the statistics of
# Figure 8.
FIGURES = {
    "figure_02": Layout(
        "The models by size, and guided models against U-Nets. The area of a bubble is its Gflops."
        " {grid}",
        ((figures.figure_02_left, figures.figure_02_right),),
        height=3.8,
    ),
    "figure_05": Layout("The four ways of conditioning.", ((figures.figure_05,),), height=4.0),
    "figure_06": Layout(
        "The score over training, by patch and by size. {grid}", panels_by_axis(figures.figure_06)
    ),
    "figure_07": Layout(
        "The same noise and labels through every model.", ((figures.figure_07,),), "samples", 6.5
    ),
    "figure_08": Layout(
        "The score over Gflops: {correlation} {grid}", ((figures.figure_08,),), height=4.4
    ),
    "figure_09": Layout(
        "The score over training compute. {grid}", ((figures.figure_09,),), height=4.4
    ),
    "figure_10": Layout("The score over sampling compute.", ((figures.figure_10,),), height=4.4),
    "figure_12": Layout(
        "Every metric's correlation with Gflops; below, over training compute and over Gflops."
        " {grid}",
        ((figures.figure_12,), *panels_by_metric()),
    ),
    "figure_13": Layout("Training loss, smoothed.", panels_by_axis(figures.figure_13), "log"),
}


def draw(name: str, data: Any, fig: Figure) -> list[str]:
    """Draws a figure's panels; returns the reasons for those that cannot be drawn.

    Raises:
        TableError: no panel can be drawn.
    """
    layout = FIGURES[name]
    drawn, reasons = draw_rows(layout.rows, layout.height, data, fig)
    if not drawn:
        raise TableError("; ".join(reasons))
    if drawn != layout.rows:  # close the gaps that empty places would leave
        fig.clear()
        draw_rows(drawn, layout.height, data, fig)
    return reasons


def draw_rows(rows: Rows, height: float, data: Any, fig: Figure) -> tuple[Rows, list[str]]:
    """Lays out rows of panels; returns the drawn ones, and why the others cannot be drawn."""
    fig.set_size_inches(WIDTH if max(map(len, rows)) > 1 else NARROW, height * len(rows))
    drawn: list[tuple[Panel, ...]] = []
    reasons: list[str] = []
    for place, row in enumerate(rows):
        panels: list[Panel] = []
        for column, panel in enumerate(row):
            ax = add_axes(fig, (place, len(rows)), (column, len(row)))
            try:
                panel(data, ax)
            except TableError as reason:
                ax.remove()
                reasons.append(str(reason))
            else:
                panels.append(panel)
        drawn.append(tuple(panels))
    return tuple(filter(None, drawn)), list(dict.fromkeys(reasons))


def add_axes(fig: Figure, row: tuple[int, int], column: tuple[int, int]) -> Axes:
    """Adds axes in a fixed place, (index, count) of its row and column.

    Labels are set among their neighbours, so nothing may move them afterwards.
    """
    # Inches, enough for tick labels, axis label and title.
    left, bottom, right, top = 0.78, 0.58, 0.2, 0.36
    width, height = fig.get_figwidth() / column[1], fig.get_figheight() / row[1]
    corner = column[0] * width + left, (row[1] - 1 - row[0]) * height + bottom
    box = np.array([*corner, width - left - right, height - bottom - top])
    return fig.add_axes(tuple(box / np.tile(fig.get_size_inches(), 2)))


def plotted(fig: Figure) -> pd.DataFrame:
    """Returns the numbers of a figure, read back from what was drawn so that they cannot differ."""
    return pd.DataFrame(
        [row for place, ax in enumerate(fig.axes, 1) for row in plotted_rows(place, ax)]
    )


def plotted_rows(place: int, ax: Axes) -> list[dict[str, Any]]:
    panel = {"panel": place, "title": ax.get_title(loc="left")}
    panel |= {"x_is": ax.get_xlabel(), "y_is": ax.get_ylabel()}
    series = [(line.get_label(), line.get_xydata()) for line in ax.lines]
    series += [(dots.get_label(), dots.get_offsets()) for dots in ax.collections]
    rows = [
        {**panel, "series": label, "x": x, "y": y}
        for label, points in series
        for x, y in np.asarray(points)
    ]
    if ax.images:
        models, labels = (
            [tick.get_text() for tick in ticks]
            for ticks in (ax.get_yticklabels(), ax.get_xticklabels())
        )
        rows += [
            {**panel, "series": model, "x": label, "y": None}
            for model in models
            for label in labels
        ]
    return rows


def overview(
    left: pd.DataFrame,
    right: pd.DataFrame,
    fig: Figure,
    names: Sequence[str] = ("Measured", "Published"),
) -> Figure:
    """Draws Figure 8 of two studies, each on its own axes: scores need not be one quantity.

    Raises:
        TableError: a study has no such score, or rows that cannot share an axis.
    """
    fig.set_size_inches(WIDTH, 4.0)
    for column, (table, name) in enumerate(zip((left, right), names, strict=True)):
        ax = figures.figure_08(table, add_axes(fig, (0, 1), (column, 2)))
        ax.set_title(f"{style.literal(name)}: {ax.get_title(loc='left')}", loc="left")
    return fig
