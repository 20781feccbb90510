"""Which panels make which figure, how they are laid out, and the numbers that were drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import figures, style

Panel = Callable[[Any, Axes], Axes]
Rows = tuple[tuple[Panel, ...], ...]
PAIRS = ("sfid", "inception_score", "precision", "recall")
WIDTH, NARROW, HEIGHT = (
    9.6,
    6.6,
    3.1,
)  # inches of a figure, of one with a single panel, and of one row of panels


@dataclass(frozen=True)
class Layout:
    """A figure of the paper: its caption, what it is drawn from, and its rows of panels."""

    caption: str
    rows: Rows
    source: Literal["table", "log", "samples"] = "table"
    height: float = HEIGHT


def _panels(panel: Callable[..., Axes]) -> Rows:
    by_patch = tuple(partial(panel, patch=patch) for patch in (8, 4, 2))
    return by_patch, tuple(partial(panel, size=size) for size in style.PALETTE)


# {grid} becomes the score, protocol, step and n that are drawn, {correlation} the statistics of Figure 8.
FIGURES = {
    "figure_02": Layout(
        "The models by size, and guided models against U-Nets. The area of a bubble is its Gflops. {grid}",
        ((figures.figure_02_left, figures.figure_02_right),),
        height=3.8,
    ),
    "figure_05": Layout("The four ways of conditioning.", ((figures.figure_05,),), height=4.0),
    "figure_06": Layout(
        "The score over training, by patch and by size. {grid}", _panels(figures.figure_06)
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
        "Every metric's correlation with Gflops; below, over training compute and over Gflops. {grid}",
        (
            (figures.figure_12,),
            *(
                (partial(figures.figure_09, metric=m), partial(figures.figure_08, metric=m))
                for m in PAIRS
            ),
        ),
    ),
    "figure_13": Layout("Training loss, smoothed.", _panels(figures.figure_13), "log"),
}


def draw(name: str, data: Any, fig: Figure) -> list[str]:
    """Draw a figure's panels; one that cannot be drawn is left out, and the reason returned."""
    layout = FIGURES[name]
    drawn, reasons = _rows(layout.rows, layout.height, data, fig)
    if not drawn:
        raise ValueError("; ".join(reasons))
    if drawn != layout.rows:  # close the gaps that empty places would leave
        fig.clear()
        _rows(drawn, layout.height, data, fig)
    return reasons


def _rows(rows: Rows, height: float, data: Any, fig: Figure) -> tuple[Rows, list[str]]:
    """Lay out rows of panels: those that could be drawn, and why the others could not."""
    fig.set_size_inches(WIDTH if max(map(len, rows)) > 1 else NARROW, height * len(rows))
    drawn, reasons = [], list[str]()
    for place, row in enumerate(rows):
        drawn.append(list[Panel]())
        for column, panel in enumerate(row):
            ax = cell(fig, (place, len(rows)), (column, len(row)))
            try:
                panel(data, ax)
                drawn[-1].append(panel)
            except ValueError as reason:
                ax.remove()
                reasons.append(str(reason))
    return tuple(tuple(row) for row in drawn if row), list(dict.fromkeys(reasons))


def cell(fig: Figure, row: tuple[int, int], column: tuple[int, int]) -> Axes:
    """Axes in a fixed place: labels are set among their neighbours, so nothing may move them afterwards."""
    left, bottom, right, top = (
        0.78,
        0.58,
        0.2,
        0.36,
    )  # inches, enough for tick labels, axis label and title
    width, height = fig.get_figwidth() / column[1], fig.get_figheight() / row[1]
    corner = column[0] * width + left, (row[1] - 1 - row[0]) * height + bottom
    box = np.array([*corner, width - left - right, height - bottom - top])
    return fig.add_axes(tuple(box / np.tile(fig.get_size_inches(), 2)))


def plotted(fig: Figure) -> pd.DataFrame:
    """The numbers in a figure, read back from what was drawn, so that they cannot differ from it."""
    rows: list[dict[str, Any]] = []
    for place, ax in enumerate(fig.axes, 1):
        named = {
            "panel": place,
            "title": ax.get_title(loc="left"),
            "x_is": ax.get_xlabel(),
            "y_is": ax.get_ylabel(),
        }
        series = [(line.get_label(), line.get_xydata()) for line in ax.lines]
        series += [(dots.get_label(), dots.get_offsets()) for dots in ax.collections]
        rows += [
            {**named, "series": label, "x": x, "y": y}
            for label, points in series
            for x, y in np.asarray(points)
        ]
        if ax.images:
            texts = [
                [tick.get_text() for tick in ticks]
                for ticks in (ax.get_yticklabels(), ax.get_xticklabels())
            ]
            rows += [
                {**named, "series": model, "x": label, "y": None}
                for model in texts[0]
                for label in texts[1]
            ]
    return pd.DataFrame(rows)


def overview(
    measured: pd.DataFrame,
    published: pd.DataFrame,
    fig: Figure,
    names: Sequence[str] = ("Measured", "Published"),
) -> Figure:
    """Figure 8 of two studies side by side, each on its own axes: their scores need not be one quantity."""
    fig.set_size_inches(WIDTH, 4.0)
    for column, (table, name) in enumerate(zip((measured, published), names, strict=True)):
        ax = figures.figure_08(table, cell(fig, (0, 1), (column, 2)))
        ax.set_title(f"{name}: {ax.get_title(loc='left')}", loc="left")
    return fig
