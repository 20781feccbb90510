"""The numbers of a figure, read back from what was drawn so that they cannot differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure


def plotted(fig: Figure) -> pd.DataFrame:
    """Returns a row per drawn point: panel, title, what x and y are, series, x, y."""
    rows = [row for place, ax in enumerate(fig.axes, 1) for row in panel_rows(place, ax)]
    return pd.DataFrame(rows)


def panel_rows(place: int, ax: Axes) -> list[dict[str, Any]]:
    panel = {"panel": place, "title": ax.get_title(loc="left")}
    panel |= {"x_is": ax.get_xlabel(), "y_is": ax.get_ylabel()}
    rows = [{**panel, "series": name, "x": x, "y": y} for name, x, y in points(ax)]
    if ax.images:
        ticks = ax.get_yticklabels(), ax.get_xticklabels()
        names, labels = ([tick.get_text() for tick in axis] for axis in ticks)
        cells = [(name, label) for name in names for label in labels]
        rows += [{**panel, "series": name, "x": label, "y": None} for name, label in cells]
    return rows


def points(ax: Axes) -> Iterator[tuple[str, float, float]]:
    """Yields the points of lines, bubbles, bars and bands with the name of their series."""
    for line in ax.lines:
        yield from ((str(line.get_label()), x, y) for x, y in np.asarray(line.get_xydata()))
    for drawn in ax.collections:
        name = str(drawn.get_label())
        if isinstance(drawn, PathCollection):
            yield from ((name, x, y) for x, y in np.asarray(drawn.get_offsets()))
        elif isinstance(drawn, LineCollection):
            yield from ((name, x, y) for part in drawn.get_segments() for x, y in np.asarray(part))
        else:
            vertices = np.vstack([path.vertices for path in drawn.get_paths()])
            yield from ((name, x, y) for x, y in vertices)
