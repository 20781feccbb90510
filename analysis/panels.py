"""Where the panels of a figure stand: rows of axes in em, at the width that the theme sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.models import with_family
from analysis.style import BOTTOM, LEFT, RIGHT, TOP, dots, em
from analysis.table import TableError

# Em of the narrowest panel, and of the widest figure of a single one.
LEAST, SINGLE = 11.0, 47.0
# Em between panels that share an axis, where no tick labels stand.
GAP = 1.4


@dataclass(frozen=True)
class Panel:
    """One panel: the function that draws it, its arguments, and what a caption says of it.

    `left` and `top` are the margins in em for tick labels and for the title.
    """

    draw: Callable[..., Axes]
    caption: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    left: float = LEFT
    top: float = TOP


Rows = tuple[tuple[Panel, ...], ...]


@dataclass(frozen=True)
class Layout:
    """A figure: its rows of panels, the data it is drawn from, and em of a row's height.

    `split` gives the rows of arguments with which data want the one panel. Panels of a `shared`
    figure have the same axes, so that only the outer ones are labelled. Colours of a `sized` one
    are the sizes.
    """

    rows: Rows
    source: Literal["table", "log", "samples"] = "table"
    height: float = 22.0
    split: Callable[[Any], Sequence[Sequence[Mapping[str, Any]]]] | None = None
    shared: bool = False
    sized: bool = True

    @property
    def caption(self) -> str:
        """What the caption says of these panels."""
        return " ".join(dict.fromkeys(panel.caption for row in self.rows for panel in row))


def rows_of(layout: Layout, data: Any) -> Rows:
    """Returns the rows of panels that data have.

    Raises:
        TableError: they have none.
    """
    if layout.split is None:
        return layout.rows
    panel = layout.rows[0][0]
    return tuple(
        tuple(replace(panel, arguments=arguments) for arguments in row)
        for row in layout.split(data)
    )


def by_patch_and_size(rows: pd.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the arguments of a panel for each patch and for each size of the rows.

    Models without a size have a panel by family.
    """
    sized = rows[rows["size"].ne("")]
    patches = sorted(sized["patch"].dropna().unique(), reverse=True)
    sizes = sized.groupby("size", observed=True)["gflops"].max().sort_values().index
    if not len(sizes):
        raise TableError("no model has a size: train and score one")
    others = set(
        with_family(rows[rows["size"].eq("") & rows["gflops"].gt(0) & rows["step"].gt(0)])["family"]
    )
    by_size = [{"size": size} for size in sizes] + [{"family": name} for name in sorted(others)]
    return [{"patch": patch} for patch in patches], by_size


def draw_rows(rows: Rows, layout: Layout, data: Any, fig: Figure) -> tuple[Rows, list[str]]:
    """Draws rows of panels; returns the drawn ones, and why the others cannot be drawn."""
    drawn: list[tuple[Panel, ...]] = []
    reasons: list[str] = []
    for row, places in zip(rows, place_panels(rows, layout, fig), strict=True):
        kept: list[Panel] = []
        for panel, ax in zip(row, places, strict=True):
            try:
                panel.draw(data, ax, **panel.arguments)
            except TableError as reason:
                ax.remove()
                reasons.append(str(reason))
            else:
                kept.append(panel)
        drawn.append(tuple(kept))
    return tuple(filter(None, drawn)), list(dict.fromkeys(reasons))


def place_panels(rows: Rows, layout: Layout, fig: Figure) -> list[list[Axes]]:
    """Adds axes in fixed places, rows from the top; a row that is too wide continues below.

    Names are set among their neighbours, so nothing may move the axes against them afterwards.
    """
    widest = max(map(len, rows), default=1)
    width = float(mpl.rcParams["figure.figsize"][0]) / em()
    width = min(width, SINGLE) if widest == 1 else width
    room = (
        (width - LEFT - RIGHT) / (LEAST + GAP) if layout.shared else width / (LEAST + LEFT + RIGHT)
    )
    most = max(round(room - 0.4), 1)
    lines = [len(row[at : at + most]) for row in rows for at in range(0, len(row), most)]
    fig.set_size_inches(width * em(), layout.height * len(lines) * em())
    found, line = [], 0
    for row in rows:
        columns = min(widest, most) if layout.shared else min(len(row), most)
        places = []
        for i, panel in enumerate(row):
            at = line + i // most, len(lines)
            box = in_em(panel, at, (i % most, columns), width, layout)
            places.append(
                fig.add_axes(tuple(box / np.tile([width, layout.height * len(lines)], 2)))
            )
        line += -(-len(row) // most)
        found.append(places)
    return found


def in_em(
    panel: Panel, row: tuple[int, int], column: tuple[int, int], width: float, layout: Layout
) -> np.ndarray:
    """Returns the axes of a panel, left, low, width and height in em; (index, count) of its row."""
    place, count = column
    gap = GAP if layout.shared else panel.left + RIGHT
    across = (width - panel.left - RIGHT - (count - 1) * gap) / count
    low = (row[1] - 1 - row[0]) * layout.height + BOTTOM
    return np.array(
        [panel.left + place * (across + gap), low, across, layout.height - BOTTOM - panel.top]
    )


def label_outer(fig: Figure) -> None:
    """Leaves the y label to the first panel of a row, the x label to the lowest of a column."""
    left = min(ax.get_position().x0 for ax in fig.axes)
    for ax in fig.axes:
        place = ax.get_position()
        below = [
            other
            for other in fig.axes
            if other.get_position().y1 < place.y0
            and abs(other.get_position().x0 - place.x0) < place.width / 2
        ]
        if place.x0 > left + 1e-6:
            ax.set_ylabel("")
            ax.tick_params(axis="y", labelleft=False)
        if below:
            ax.set_xlabel("")


def crop(fig: Figure) -> None:
    """Cuts off what is empty below the lowest panel; the panels keep their size."""
    lowest = min(ax.get_position().y0 for ax in fig.axes) * fig.get_figheight()
    grow(fig, BOTTOM * em() - lowest)


def grow(fig: Figure, inches: float) -> None:
    """Adds so many inches below the panels, which keep their size in inches.

    The figure has whole dots then, and panels that stood on whole dots do so still.
    """
    width, height = fig.get_size_inches()
    inches = round(inches * dots()) / dots()
    places = [ax.get_position() for ax in fig.axes]
    whole = round((height + inches) * dots()) / dots()
    fig.set_size_inches(width, whole)
    for ax, place in zip(fig.axes, places, strict=True):
        low, tall = place.y0 * height + inches, place.height * height
        ax.set_position((place.x0, low / whole, place.width, tall / whole))
