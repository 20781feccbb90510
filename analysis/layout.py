"""The figures: which panels each has, how they are drawn at the width of the theme."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.captions import caption
from analysis.catalogue import FIGURES
from analysis.figures import (
    figure_08,
)
from analysis.legend import add_legend
from analysis.panels import (
    Layout,
    Panel,
    crop,
    draw_rows,
    grow,
    label_outer,
    place_panels,
    rows_of,
)
from analysis.style import em, literal
from analysis.table import TableError


def draw(name: str, data: Any, fig: Figure) -> list[str]:
    """Draws a figure's panels; returns the reasons for those that cannot be drawn.

    The figure's label becomes its caption, of the panels that are drawn.

    Raises:
        TableError: no panel can be drawn.
    """
    layout = FIGURES[name]
    rows = rows_of(layout, data)
    drawn, reasons = draw_rows(rows, layout, data, fig)
    if not drawn:
        raise TableError("; ".join(reasons))
    if drawn != rows:  # close the gaps that empty places would leave
        fig.clear()
        draw_rows(drawn, layout, data, fig)
    if layout.shared:
        label_outer(fig)
    crop(fig)
    if layout.source == "samples":
        grow(fig, em())  # for the stamp
    else:
        # Families of several studies have colours as if they were of one.
        one = name == "figure_families"
        add_legend(fig, data.assign(study="") if one else data, layout.sized)
    text = Layout(drawn).caption
    fig.set_label(caption(name, text, data) if layout.source == "table" else text)
    return reasons


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
    panel = Panel(figure_08, "")
    layout = Layout(((panel, panel),), height=26)
    tables = iter((left, right))
    place_panels(((panel, panel),), layout, fig)
    for ax, table, name in zip(fig.axes, tables, names, strict=True):
        figure_08(table, ax)
        ax.set_title(f"{literal(name)}\n{ax.get_title(loc='left')}", loc="left")
    crop(fig)
    add_legend(fig, pd.concat([left, right]))
    return fig
