"""Places names beside points and curves: over no other name, near to their own mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from analysis import style

Array = NDArray[np.float64]
# A name may stand at one of so many places along its curve.
PLACES = 12
# Gap in points beyond which a thin line leads from a name to its mark.
FAR = 7.0
# The radius of a marker in points; what is larger is a bubble.
SMALL = 3.5


def label(
    ax: Axes,
    marks: Sequence[Any],
    texts: Sequence[str],
    colours: Sequence[Any],
    radii: Any = SMALL,
) -> None:
    """Writes each text beside its mark, [K, 2] in data: the points of a curve, or one point.

    Over no other text, no marker and little of a line, and nearer to its own mark than to others.
    The limits and the place of the axes must be final. `radii` are those of the markers in points.
    """
    ax.autoscale_view()  # matplotlib delays it until drawing; the places below need the limits now
    scale = points_of(ax)
    frame = np.asarray(ax.get_window_extent().extents) / scale
    shown = [visible(ax.transData.transform(mark) / scale, frame) for mark in marks]
    radii = np.broadcast_to(radii, len(shown))
    knots = [ax.transData.transform(mark) / scale for mark in marks]
    around = [
        np.vstack([box(mark, 2, 2), *[box(points, 2 * radius, 2 * radius)] * (len(points) < 30)])
        for mark, points, radius in zip(shown, knots, radii, strict=True)
    ]
    # What a name must be near to: a curve or a point, of a bubble the whole of it.
    cores = [
        box(mark, *[2 * max(radius - SMALL, 0)] * 2)
        for mark, radius in zip(shown, radii, strict=True)
    ]
    covered = np.vstack([*around, drawn_lines(ax, marks, scale)])
    places: list[Array] = [np.empty((0, 4))] * len(shown)
    for again in (False, True):
        for i, text in enumerate(texts):
            others = np.vstack([np.empty((0, 4)), *cores[:i], *cores[i + 1 :]])
            written = np.vstack([np.empty((0, 4)), *places[:i], *places[i + 1 :]])
            # The first pass knew only the texts before; a later one may have come too near.
            if again and not overlap(places[i], written).any():
                continue
            taken = shown[i], cores[i], radii[i], others, covered, written, frame
            places[i] = best_place(text, *taken)[None]
    for i, text in enumerate(texts):
        if text:
            write(ax, text, places[i][0], marks[i], shown[i], colours[i], radii[i])


def points_of(ax: Axes) -> float:
    """Returns the pixels of a point on the axes' figure."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    return float(figure.dpi / 72)


def visible(mark: Array, frame: Array) -> Array:
    """Returns the part of a curve inside the frame, at least its last point, every few points."""
    if len(mark) > 1:
        t = np.linspace(0, len(mark) - 1, 4 * PLACES)
        mark = np.column_stack([np.interp(t, np.arange(len(mark)), axis) for axis in mark.T])
    inside = (mark >= frame[:2]).all(1) & (mark <= frame[2:]).all(1)
    return mark[inside] if inside.any() else mark[-1:]


def best_place(
    text: str,
    mark: Array,
    core: Array,
    radius: float,
    others: Array,
    covered: Array,
    written: Array,
    frame: Array,
) -> Array:
    """Returns the box of a text that costs least among places around its mark.

    What it costs, in areas of the text: 8 over a text, for that is worst; 5 outside of the frame;
    3 over a line (boxes 2 points wide) or marker; 1 where another mark is nearer than its own; a
    little for the distance to the mark, and to the end of the curve, where names are looked for.
    """
    width, height = extent(text)
    anchors = mark[:: -max(len(mark) // PLACES, 1)]
    offsets, stretch = places_around(width, height, radius)
    boxes = box((anchors[:, None] + offsets).reshape(-1, 2), width, height)
    area = width * height
    own, nearest = distance(boxes, core), distance(boxes, others)
    cost = (
        8 * overlap(boxes, written)
        + 3 * overlap(boxes, covered)
        + 5 * (area - overlap(boxes, frame[None]))
        + area * (nearest < own + 1)
        + area * np.tile(0.05 * (stretch - 1), len(anchors))
        + area * np.repeat(np.linspace(0, 0.4, len(anchors)), len(offsets))
    )
    return np.asarray(boxes[int(np.argmin(np.round(cost, 3)))])


def extent(text: str) -> tuple[float, float]:
    """Returns width and height of a text in points."""
    font = FontProperties(size=style.small())
    lines = text.split("\n")
    widths = [
        text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in lines
    ]
    return max(widths), 1.12 * style.small() * len(lines)


def write(
    ax: Axes, text: str, place: Array, mark: Any, shown: Array, colour: Any, radius: float
) -> None:
    """Writes a text into its box, with a thin line to its mark where that is far."""
    scale = points_of(ax)
    centre = (place[:2] + place[2:]) / 2
    nearest = shown[np.linalg.norm(shown - centre, axis=1).argmin()]
    gap = float(distance(place[None], box(nearest[None], 0, 0))[0]) - radius
    data = ax.transData.inverted().transform(nearest * scale)
    soft: dict[str, Any] = {"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0}
    ax.annotate(
        style.literal(text),
        tuple(data) if len(mark) > 1 else tuple(np.asarray(mark)[0]),
        tuple(centre - nearest),
        textcoords="offset points",
        color=colour,
        ha="center",
        va="center",
        fontsize=style.small(),
        zorder=5,
        arrowprops={**soft, "shrinkB": radius} if gap > FAR else None,
    )


def places_around(width: float, height: float, radius: float) -> tuple[Array, Array]:
    """Returns centres [K, 2] of a text about a point, and how far out each is, near ones first."""
    ring: list[tuple[float, float]] = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 0.7), (1, -0.7)]
    ring += [(-1, 0.7), (-1, -0.7), (0.6, 1), (0.6, -1)]
    reach = np.array([width / 2 + radius + 1, height / 2 + radius + 1])
    stretch = np.repeat([1.0, 1.4, 2.0, 3.0], len(ring))
    return np.tile(np.array(ring) * reach, (4, 1)) * stretch[:, None], stretch


def box(centres: Array, width: Any, height: Any) -> Array:
    """Returns the corners [N, 4] of boxes around the centres [N, 2]: left, low, right, high."""
    half = np.broadcast_to(np.column_stack([width, height]) / 2, centres.shape)
    return np.hstack([centres - half, centres + half])


def overlap(places: Array, others: Array) -> Array:
    """Returns the summed area [P] that each box shares with the others."""
    across, up = (
        np.minimum(places[:, None, i + 2], others[:, i + 2])
        - np.maximum(places[:, None, i], others[:, i])
        for i in (0, 1)
    )
    return np.einsum("ij,ij->i", np.maximum(across, 0), np.maximum(up, 0))


def distance(places: Array, others: Array) -> Array:
    """Returns the distance [P] of each box from the nearest of the others."""
    across, up = (
        np.maximum(
            np.maximum(
                others[:, i] - places[:, None, i + 2], places[:, None, i] - others[:, i + 2]
            ),
            0,
        )
        for i in (0, 1)
    )
    return np.sqrt(np.min(across * across + up * up, axis=1, initial=np.inf))


def drawn_lines(ax: Axes, marks: Sequence[Any], scale: float) -> Array:
    """Returns boxes along the lines that are no marks, such as a fit or a frontier."""
    named = [np.asarray(mark) for mark in marks]
    found = [np.empty((0, 4))]
    for line in ax.lines:
        points = np.asarray(line.get_xydata(), float)
        if not any(np.array_equal(points, mark) for mark in named):
            shown = line.get_transform().transform(points) / scale
            t = np.linspace(0, len(shown) - 1, 4 * PLACES)
            along = [np.interp(t, np.arange(len(shown)), axis) for axis in shown.T]
            found.append(box(np.column_stack(along), 2, 2))
    return np.vstack(found)
