"""The style of all figures: widths by venue, colour by size, marker and dashes by patch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

# Inches of a figure: the text width of a venue's template, and of one of its columns.
WIDTHS = {
    "page": 9.6,
    "icml": 6.75,
    "icml-column": 3.25,
    "neurips": 5.5,
    "cvpr": 6.875,
    "cvpr-column": 3.25,
    "nature": 7.2,
    "nature-column": 3.5,
}
# Points of the text: a page is read on a screen, beside 16 px; the smallest text is 0.8 of these.
PAGE_POINTS, VENUE_POINTS = 10.0, 7.6
# Margins of a single panel in em: tick labels, axis label and title, and nothing at the right.
LEFT, BOTTOM, RIGHT, TOP = 6.0, 3.9, 1.2, 2.2

# From light to dark, at least 11 apart in lightness, so that the order of sizes survives in grey;
# at least 25 apart in Lab for each kind of colour blindness.
PALETTE = {"S": "#2e96cf", "B": "#d1495b", "L": "#5b3a9b", "XL": "#10243e"}
MARKERS = {8: "^", 4: "s", 2: "o"}
OTHER_MARKERS = "DvPX<>h*dp"
SIZE_MARKERS = "osD^vPX*<>"
# Families have no order; at least 23 apart in Lab for each kind of colour blindness.
FAMILIES = ("#10243e", "#b58900", "#008b8b", "#5b3a9b", "#a0522d", "#c77dff")
DASHES = {8: ":", 4: "--", 2: "-"}
OTHER_DASHES = ("-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 3)))
OTHER, ACCENT = "#4a7d4a", "#c05621"
INCOMPLETE = "#b4b4b4"
INK = "#333333"
SOFT = "#6e6e6e"
THEME: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelpad": 3,
    "axes.labelsize": 1.0,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 1.0,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "grid.color": "#ebebeb",
    "grid.linewidth": 0.6,
    "legend.fontsize": 0.87,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 0.5,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    # Text stays text: an SVG is then a third as large, and its words can be edited and searched.
    "svg.fonttype": "none",
    # Without a salt every SVG has other ids on every run, and a report under version control
    # changes each time.
    "svg.hashsalt": "analysis",
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 0.87,
    "ytick.color": INK,
    "ytick.labelsize": 0.87,
}
# Settings of THEME that are multiples of the text's size.
IN_EM = [name for name in THEME if name.endswith(("size", "fontsize"))]


@contextmanager
def theme(width: str = "page") -> Iterator[None]:
    """Sets the style and a venue's width for the figures drawn inside, and for nothing else.

    `width` is one of `WIDTHS`.

    Raises:
        ValueError: no venue of that name.
    """
    if width not in WIDTHS:
        raise ValueError(f"width = {width!r} is unknown: choose one of {', '.join(WIDTHS)}")
    points = PAGE_POINTS if width == "page" else VENUE_POINTS
    sizes = {name: THEME[name] * points for name in IN_EM}
    settings: Any = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **THEME, **sizes}
    with mpl.rc_context(settings | frame(WIDTHS[width], points)):
        yield


def frame(width: float, points: float) -> dict[str, Any]:
    """Returns the settings of a figure with one panel, so that `plt.subplots()` has its margins."""
    height = min(0.7 * width, 4.2)
    across, up = (points / 72 / inches for inches in (width, height))
    return {
        "font.size": points,
        "figure.figsize": (width, height),
        "figure.subplot.left": LEFT * across,
        "figure.subplot.right": 1 - RIGHT * across,
        "figure.subplot.bottom": BOTTOM * up,
        "figure.subplot.top": 1 - TOP * up,
    }


def em() -> float:
    """Returns the size of the text in inches."""
    return float(mpl.rcParams["font.size"]) / 72


def dots() -> float:
    """Returns the dots per inch of a saved picture; outside of a theme those of the screen."""
    found = mpl.rcParams["savefig.dpi"]
    return float(mpl.rcParams["figure.dpi"] if found == "figure" else found)


def small() -> float:
    """Returns the points of labels at curves: the size of tick labels."""
    return 0.87 * float(mpl.rcParams["font.size"])


def colours(rows: pd.DataFrame) -> dict[str, str]:
    """Returns the colour of each size, from light to dark with Gflops.

    The sizes of the paper keep their colours; beyond four sizes, the order on a colour map.
    """
    sizes = list(rows[rows["size"].ne("")].groupby("size")["gflops"].max().sort_values().index)
    if set(sizes) <= set(PALETTE):
        return PALETTE
    return dict(zip(sizes, ramp(len(sizes)), strict=True))


def ramp(count: int) -> list[str]:
    """Returns that many colours from light to dark: the palette's while it has enough."""
    if count <= len(PALETTE):
        return list(PALETTE.values())[-count:]
    return [to_hex(mpl.colormaps["magma"](place)) for place in np.linspace(0.68, 0.03, count)]


def others(values: pd.Series, known: Mapping[Any, Any], more: Sequence[Any]) -> dict[Any, Any]:
    """Returns what is known of some values, and one of `more` for each other value."""
    unknown = sorted(set(values.dropna()) - set(known))
    return {**known, **{value: more[i % len(more)] for i, value in enumerate(unknown)}}


def several_families(rows: pd.DataFrame) -> bool:
    """Whether a study among the rows has several families: colours are theirs then."""
    return "family" in rows and bool(rows.groupby("study")["family"].nunique().gt(1).any())


def inks(rows: pd.DataFrame) -> tuple[str, dict[Any, str]]:
    """Returns the column that colours tell apart, and the colour of each of its values.

    It is the size, and of several families the family.
    """
    if several_families(rows):
        return "family", others(rows["family"], {}, FAMILIES)
    return "size", colours(rows)


def markers(rows: pd.DataFrame) -> tuple[str, dict[Any, str]]:
    """Returns the column that markers tell apart, and the marker of each of its values.

    It is the patch, and of several families the size, in order of Gflops.
    """
    if several_families(rows):
        sized = rows[rows["size"].ne("")].groupby("size", observed=True)["gflops"].max()
        order = sized.sort_values().index
        return "size", {size: SIZE_MARKERS[i % len(SIZE_MARKERS)] for i, size in enumerate(order)}
    return "patch", others(rows["patch"], MARKERS, OTHER_MARKERS)


def dashes(rows: pd.DataFrame) -> tuple[str, dict[Any, Any]]:
    """Returns the column that dashes tell apart, and the dashes of each of its values.

    It is the patch, and of models with several recipes the recipe.
    """
    if "recipe" in rows and rows["recipe"].ne("").any():
        return "recipe", others(rows["recipe"], {}, ("-", "--", ":", *OTHER_DASHES))
    return "patch", others(rows["patch"], DASHES, OTHER_DASHES)


def line_styles(rows: pd.DataFrame) -> Callable[[pd.Series], dict[str, Any]]:
    """Returns what gives a run's line properties among all `rows`.

    Colour is the size and the marker the patch, of several families the family and the size;
    dashes are the patch, or the recipe; measured is filled, published hollow, incomplete grey.
    """
    (key, ink), (column, marker), (dashed, dash) = inks(rows), markers(rows), dashes(rows)

    def line_style(row: pd.Series) -> dict[str, Any]:
        colour = ink.get(row[key], OTHER) if row.get("complete", True) else INCOMPLETE
        hollow = row.get("source", "measured") != "measured"
        return {
            "color": colour,
            "marker": marker.get(row[column], "H"),
            "linestyle": dash.get(row[dashed], "-"),
            "markeredgecolor": colour,
            "markerfacecolor": "white" if hollow else colour,
            "label": row["model"],
        }

    return line_style


def inked(look: Mapping[str, Any], ink: str) -> dict[str, Any]:
    """Returns the colours of a line in another ink: a hollow marker stays hollow."""
    face = "white" if look["markerfacecolor"] == "white" else ink
    return {"color": ink, "markeredgecolor": ink, "markerfacecolor": face}


def literal(text: str) -> str:
    """Escapes dollar signs, which matplotlib would parse as mathematics."""
    return text.replace("$", r"\$")


def stamp(fig: Figure, text: str) -> None:
    """Writes into the lower right corner which table the figure was drawn from."""
    points = 0.8 * float(mpl.rcParams["font.size"])
    soft: dict[str, Any] = {"fontsize": points, "color": SOFT, "ha": "right", "va": "bottom"}
    width, height = fig.get_size_inches()
    fig.text(1 - 0.04 / width, 0.03 / height, literal(text), **soft)
