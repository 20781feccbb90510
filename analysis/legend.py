"""The legend of a figure: which size is which colour, which patch which marker, what is hollow."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import style
from analysis.curves import apart
from analysis.loss import CURVE, with_recipe
from analysis.models import with_family
from analysis.panels import grow


def add_legend(fig: Figure, table: pd.DataFrame, sized: bool = True) -> None:
    """Adds space below the panels, with the encodings that they use and the table has."""
    if "metric" not in table:  # a log: millions of steps of a few curves
        table = with_recipe(table.drop_duplicates([name for name in CURVE if name in table]))
    elif sized:
        table = apart(table)
    table = with_family(table[table["gflops"].gt(0) & table["step"].gt(0)])
    handles = encodings(fig, table, sized)
    em, width = style.em(), fig.get_figwidth() / style.em()
    columns = max(int((width - 1) // widest(handles)), 1) if handles else 1
    lines = -(-len(handles) // columns)
    columns = -(-len(handles) // max(lines, 1))
    # Below is also the stamp, a line of 1.4 em.
    foot = 1.4 + 1.25 * lines
    grow(fig, foot * em)
    if handles:
        fig.legend(
            handles=by_row(handles, columns),
            loc="lower left",
            bbox_to_anchor=(0.6 / width, 1.3 * em / fig.get_figheight()),
            ncols=columns,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.2,
            handlelength=1.9,
            labelspacing=0.3,
        )


def by_row(handles: list[Line2D], columns: int) -> list[Line2D]:
    """Returns the entries in the order in which a legend, filled by column, reads by row."""
    return [handle for column in range(columns) for handle in handles[column::columns]]


def widest(handles: list[Line2D]) -> float:
    """Returns em of the widest entry with its gap."""
    return 3.4 + 0.56 * max(len(str(handle.get_label())) for handle in handles)


def encodings(fig: Figure, table: pd.DataFrame, sized: bool) -> list[Line2D]:
    """Returns what a reader must know: of sizes, patches and sources those that are drawn."""
    column, colours = style.inks(table)
    known = {**colours, "incomplete": style.INCOMPLETE, "other": style.OTHER}
    lines = [line for ax in fig.axes for line in ax.lines]
    lines = [line for line in lines if not sized or ink(line) in known.values()]
    dots = [dots for ax in fig.axes for dots in ax.collections if isinstance(dots, PathCollection)]
    inks = {ink(line) for line in lines} | {to_hex(np.asarray(d.get_edgecolor())[0]) for d in dots}
    names = order(table) if column == "size" else sorted(set(table["family"]))
    shown = [name for name in names if known[name] in inks] if sized else []
    found = [entry(f"size {x}" if column == "size" else x, color=known[x], lw=3) for x in shown]
    found += marker_entries(lines, table) if sized else []
    given = table["source"] if "source" in table else pd.Series("measured", table.index)
    found += source_entries(lines, dots, bool(given.eq("measured").any()))
    if style.INCOMPLETE in inks:
        found.append(entry("incomplete", color=style.INCOMPLETE, lw=3))
    return found


def ink(line: Line2D) -> str:
    return to_hex(to_rgb(line.get_color()))


def source_entries(lines: list[Line2D], dots: list[PathCollection], measured: bool) -> list[Line2D]:
    """Returns what hollow and faint markers are, and where there are both, what filled ones are."""
    faces = [line.get_markerfacecolor() for line in lines if line.get_marker() not in ("None", "")]
    hollow = "white" in faces or any(np.asarray(d.get_facecolor())[0, 3] < 0.5 for d in dots)
    filled = set(faces) - {"white", "none"} or any(
        np.asarray(d.get_facecolor())[0, 3] > 0.5 for d in dots
    )
    look: dict[str, Any] = {"marker": "o", "color": style.SOFT, "ls": "none"}
    found = [entry("published", mfc="white", **look)] if hollow else []
    return found + ([entry("measured", **look)] if hollow and filled and measured else [])


def order(table: pd.DataFrame) -> list[str]:
    sized = table[table["size"].ne("")]
    return list(sized.groupby("size", observed=True)["gflops"].max().sort_values().index)


def marker_entries(lines: list[Line2D], table: pd.DataFrame) -> list[Line2D]:
    """Returns an entry per patch or size with its marker, and with dashes where lines have."""
    column, marker = style.markers(table)
    by, dashed = style.dashes(table)
    drawn = {line.get_marker() for line in lines}
    joined = any(np.size(line.get_xdata()) > 2 and line.get_linestyle() != "None" for line in lines)
    found = []
    patches = sorted(set(table["patch"].dropna()), key=str, reverse=True)
    for value in patches if column == "patch" else order(table):
        look: dict[str, Any] = {"color": style.INK, "lw": 1.2}
        look["marker"] = marker[value] if marker[value] in drawn else ""
        look["ls"] = dashed[value] if column == by and joined else "none"
        if look["marker"] or look["ls"] != "none":
            text = f"patch {value:g}" if column == "patch" else f"size {value}"
            found.append(entry(text, **look))
    return found


def entry(text: str, **look: Any) -> Line2D:
    points = 0.5 * float(mpl.rcParams["font.size"])
    return Line2D([], [], label=style.literal(text), **{"ms": points, **look})
