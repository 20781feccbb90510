"""One look for every figure: colour by size, marker by patch, powers of ten, labels beside the points."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatterMathtext, LogLocator, NullFormatter
from numpy.typing import NDArray

# Okabe and Ito's colours, told apart by colour-blind readers too, ordered from small to large.
PALETTE = {"S": "#56a8dd", "B": "#00936b", "L": "#e08e00", "XL": "#c8321f"}
MARKERS = {8: "^", 4: "s", 2: "o"}
OTHER, INCOMPLETE, INK = "#7a4fa3", "#b4b4b4", "#333333"
LABEL = 7.5
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
    # Without a salt every SVG has other ids on every run, and a report under version control changes each time.
    "svg.hashsalt": "analysis",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}


@contextmanager
def theme() -> Iterator[None]:
    """The style for the figures drawn inside, and for nothing else in the process."""
    settings: Any = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **THEME}
    with mpl.rc_context(settings):
        yield


def look(row: pd.Series) -> dict[str, Any]:
    """How the run of this row is drawn: measured filled, published hollow, incomplete grey."""
    colour = PALETTE.get(row["size"], OTHER) if row.get("complete", True) else INCOMPLETE
    face = colour if row.get("source", "measured") == "measured" else "white"
    return {
        "color": colour,
        "marker": MARKERS.get(row["patch"], "D"),
        "markerfacecolor": face,
        "label": row["model"],
    }


def log_axis(ax: Axes, which: Literal["x", "y"] = "x") -> None:
    """A logarithmic axis that names powers of ten only, and always at least two of them."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    low, high = ax.get_xlim() if which == "x" else ax.get_ylim()
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        (ax.set_xlim if which == "x" else ax.set_ylim)(
            min(low, 10 ** np.floor(np.log10(low))), max(high, 10 ** np.ceil(np.log10(high)))
        )
    axis.set_major_locator(LogLocator(numticks=12))
    axis.set_major_formatter(LogFormatterMathtext())
    axis.set_minor_formatter(NullFormatter())


def label(ax: Axes, x: Any, y: Any, texts: list[str], colours: list[Any], radii: Any = 3.5) -> None:
    """Each text beside its point, where it covers no other text, no marker and as little of a line as possible."""
    ax.autoscale_view()  # matplotlib puts it off until drawing, and the places below need the limits now
    figure = ax.get_figure(root=True)
    assert figure is not None
    scale = figure.dpi / 72
    at = ax.transData.transform(np.column_stack([x, y])) / scale
    radii = np.broadcast_to(radii, len(at))
    taken = np.vstack(
        [_box(at, 2 * radii, 2 * radii), *(_box(trace, 2, 2) for trace in _traces(ax, scale))]
    )
    frame = np.asarray(ax.get_window_extent().extents) / scale
    for data, point, text, colour, radius in zip(
        zip(x, y, strict=True), at, texts, colours, radii, strict=True
    ):
        width, height = 0.64 * LABEL * len(text), 1.1 * LABEL
        boxes = _box(point + _around(width, height, radius), width, height)
        cost = [
            _overlap(box, taken) + 5 * (width * height - _overlap(box, frame[None]))
            for box in boxes
        ]
        best = boxes[int(np.argmin(np.round(cost, 3)))]
        taken = np.vstack(
            [taken, np.repeat(best[None], 3, axis=0)]
        )  # a text over a text is worse than over a line
        offset = ((best[:2] + best[2:]) / 2 - point).tolist()
        how = {"ha": "center", "va": "center", "fontsize": LABEL, "color": colour, "zorder": 5}
        ax.annotate(text, data, offset, textcoords="offset points", **how)


def _around(width: float, height: float, radius: float) -> NDArray[np.float64]:
    """Candidate places for the centre of a text, from its right side onwards, near ones first."""
    ring = [
        (1, 0),
        (0, 1),
        (0, -1),
        (-1, 0),
        (1, 0.7),
        (1, -0.7),
        (-1, 0.7),
        (-1, -0.7),
        (0.6, 1),
        (0.6, -1),
    ]
    return np.array(
        [
            (i * (width / 2 + radius + 1) * r, j * (height / 2 + radius + 1) * r)
            for r in (1, 1.35, 1.8, 2.4)
            for i, j in ring
        ]
    )


def _box(centres: NDArray[np.float64], width: Any, height: Any) -> NDArray[np.float64]:
    half = np.broadcast_to(np.column_stack([width, height]) / 2, centres.shape)
    return np.hstack([centres - half, centres + half])


def _overlap(box: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return float(np.prod(np.clip(sides, 0, None), axis=1).sum())


def _traces(ax: Axes, scale: float) -> list[NDArray[np.float64]]:
    """Points every few typographic points along each line."""
    traces = []
    for line in ax.lines:
        xy = line.get_transform().transform(np.asarray(line.get_xydata())) / scale
        t = np.linspace(0, len(xy) - 1, 40 if len(xy) > 1 else 1)
        traces.append(np.column_stack([np.interp(t, np.arange(len(xy)), xy[:, k]) for k in (0, 1)]))
    return traces


def stamp(fig: Figure, text: str) -> None:
    """Which table the figure was drawn from."""
    fig.text(0.995, 0.004, text, ha="right", va="bottom", fontsize=6, color="#8a8a8a")
