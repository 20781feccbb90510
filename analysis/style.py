"""The style of all figures: colour by size, marker by patch, powers of ten, labels at points."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Okabe and Ito's colours, which colour-blind readers can distinguish, from small to large.
PALETTE = {"S": "#56a8dd", "B": "#00936b", "L": "#e08e00", "XL": "#c8321f"}
MARKERS = {8: "^", 4: "s", 2: "o"}
OTHER = "#7a4fa3"
INCOMPLETE = "#b4b4b4"
INK = "#333333"
LABEL_SIZE = 7.5
THEME: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "grid.color": "#ebebeb",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "pdf.fonttype": 42,
    "savefig.dpi": 150,
    # Without a salt every SVG has other ids on every run, and a report under version control
    # changes each time.
    "svg.hashsalt": "analysis",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}


@contextmanager
def theme() -> Iterator[None]:
    """Sets the style for the figures drawn inside, and for nothing else in the process."""
    settings: Any = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **THEME}
    with mpl.rc_context(settings):
        yield


def line_style(row: pd.Series) -> dict[str, Any]:
    """Returns a run's line properties: measured filled, published hollow, incomplete grey."""
    colour = PALETTE.get(row["size"], OTHER) if row.get("complete", True) else INCOMPLETE
    face = colour if row.get("source", "measured") == "measured" else "white"
    return {
        "color": colour,
        "marker": MARKERS.get(row["patch"], "D"),
        "markerfacecolor": face,
        "label": row["model"],
    }


def log_axis(ax: Axes) -> None:
    """Makes x logarithmic, with labels at powers of ten only and at two of them at least."""
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        powers = 10 ** np.floor(np.log10(low)), 10 ** np.ceil(np.log10(high))
        ax.set_xlim(min(low, powers[0]), max(high, powers[1]))
    ax.xaxis.set_major_locator(LogLocator(numticks=12))
    ax.xaxis.set_major_formatter(LogFormatterMathtext())
    ax.xaxis.set_minor_formatter(NullFormatter())


def literal(text: str) -> str:
    """Escapes dollar signs, which matplotlib would parse as mathematics."""
    return text.replace("$", r"\$")


def label(ax: Axes, x: Any, y: Any, texts: list[str], colours: list[Any], radii: Any = 3.5) -> None:
    """Writes each text beside its point, over no other text, no marker and little of a line."""
    ax.autoscale_view()  # matplotlib delays it until drawing; the places below need the limits now
    figure = ax.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    centres = ax.transData.transform(np.column_stack([x, y])) / scale
    radii = np.broadcast_to(radii, len(centres))
    lines = [box(trace, 2, 2) for trace in traces(ax, scale)]
    taken = np.vstack([box(centres, 2 * radii, 2 * radii), *lines])
    frame = np.asarray(ax.get_window_extent().extents) / scale
    points = zip(zip(x, y, strict=True), centres, texts, colours, radii, strict=True)
    for data, centre, text, colour, radius in points:
        best = best_place(centre, text, radius, taken, frame)
        # Counted three times: a text over a text is worse than over a line.
        taken = np.vstack([taken, np.repeat(best[None], 3, axis=0)])
        offset = ((best[:2] + best[2:]) / 2 - centre).tolist()
        place: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": LABEL_SIZE,
            "zorder": 5,
        }
        ax.annotate(literal(text), data, offset, textcoords="offset points", color=colour, **place)


def best_place(centre: Array, text: str, radius: float, taken: Array, frame: Array) -> Array:
    """Returns the box of a text around a point that overlaps least and stays in the frame."""
    width, height = 0.64 * LABEL_SIZE * len(text), 1.1 * LABEL_SIZE
    boxes = box(centre + places_around(width, height, radius), width, height)
    cost = [
        overlap(place, taken) + 5 * (width * height - overlap(place, frame[None]))
        for place in boxes
    ]
    return np.asarray(boxes[int(np.argmin(np.round(cost, 3)))])


def places_around(width: float, height: float, radius: float) -> Array:
    """Returns candidate centres of a text [K, 2]: from its right side onwards, near ones first."""
    ring: list[tuple[float, float]] = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 0.7), (1, -0.7)]
    ring += [(-1, 0.7), (-1, -0.7), (0.6, 1), (0.6, -1)]
    reach = np.array([width / 2 + radius + 1, height / 2 + radius + 1])
    return np.concatenate([np.array(ring) * reach * stretch for stretch in (1, 1.35, 1.8, 2.4)])


def box(centres: Array, width: Any, height: Any) -> Array:
    """Returns the corners [N, 4] of boxes around the centres [N, 2]: left, low, right, high."""
    half = np.broadcast_to(np.column_stack([width, height]) / 2, centres.shape)
    return np.hstack([centres - half, centres + half])


def overlap(place: Array, others: Array) -> float:
    """Returns the summed area that a box shares with others."""
    sides = np.minimum(place[2:], others[:, 2:]) - np.maximum(place[:2], others[:, :2])
    return float(np.prod(np.clip(sides, 0, None), axis=1).sum())


def traces(ax: Axes, scale: float) -> list[Array]:
    """Returns points every few typographic points along each line."""
    found = []
    for line in ax.lines:
        xy = line.get_transform().transform(np.asarray(line.get_xydata())) / scale
        t = np.linspace(0, len(xy) - 1, 40 if len(xy) > 1 else 1)
        along = [np.interp(t, np.arange(len(xy)), xy[:, axis]) for axis in (0, 1)]
        found.append(np.column_stack(along))
    return found


def stamp(fig: Figure, text: str) -> None:
    """Writes into a corner which table the figure was drawn from."""
    small: dict[str, Any] = {"fontsize": 6, "color": "#8a8a8a"}
    fig.text(0.995, 0.004, literal(text), ha="right", va="bottom", **small)
