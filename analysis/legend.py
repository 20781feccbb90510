"""The legend of a figure: which size is which colour, which patch which marker, what is hollow."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import style
from analysis.panels import grow


def add_legend(fig: Figure, table: pd.DataFrame) -> None:
    """Adds space below the panels, with the encodings that they use and the table has."""
    handles = encodings(fig, table)
    em, width = style.em(), fig.get_figwidth() / style.em()
    columns = max(int((width - 1) // widest(handles)), 1) if handles else 1
    lines = -(-len(handles) // columns)
    # Below is also the stamp, a line of 1.4 em.
    foot = 1.4 + 1.25 * lines
    grow(fig, foot * em)
    if handles:
        fig.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.6 / width, 1.3 * em / fig.get_figheight()),
            ncols=columns,
            borderaxespad=0,
            borderpad=0,
            columnspacing=1.2,
            handlelength=1.9,
            labelspacing=0.3,
        )


def widest(handles: list[Line2D]) -> float:
    """Returns em of the widest entry with its gap."""
    return 3.4 + 0.56 * max(len(str(handle.get_label())) for handle in handles)


def encodings(fig: Figure, table: pd.DataFrame) -> list[Line2D]:
    """Returns what a reader must know: of sizes, patches and sources those that are drawn."""
    lines = [line for ax in fig.axes for line in ax.lines]
    inks = {to_hex(line.get_color()) for line in lines}
    inks |= {to_hex(edge) for ax in fig.axes for dots in ax.collections for edge in dots.get_edgecolor()}
    sizes = [name for name in order(table) if style.colours(table)[name] in inks]
    found = [entry(f"size {name}", color=style.colours(table)[name], lw=3) for name in sizes]
    found += patch_entries(lines, table) if len(sizes) else []
    hollow = any(line.get_markerfacecolor() == "white" and line.get_marker() != "None" for line in lines)
    solid = any(line.get_markerfacecolor() != "white" and line.get_marker() not in ("None", "") for line in lines)
    if hollow:
        found.append(entry("published", marker="o", mfc="white", color=style.SOFT, ls="none"))
    if hollow and solid:
        found.append(entry("measured", marker="o", color=style.SOFT, ls="none"))
    if style.INCOMPLETE in inks:
        found.append(entry("incomplete", color=style.INCOMPLETE, lw=3))
    return found


def order(table: pd.DataFrame) -> list[str]:
    sized = table[table["size"].ne("")]
    return list(sized.groupby("size", observed=True)["gflops"].max().sort_values().index)


def patch_entries(lines: list[Line2D], table: pd.DataFrame) -> list[Line2D]:
    """Returns an entry per patch or family with its marker, and with dashes where lines have."""
    column, marker = style.markers(table)
    dashed = style.others(table["patch"], style.DASHES, style.OTHER_DASHES)
    drawn = {line.get_marker() for line in lines}
    joined = any(len(line.get_xdata()) > 2 and line.get_linestyle() != "None" for line in lines)  # type: ignore[arg-type]
    found = []
    for value in sorted(set(table[column].dropna()), key=str, reverse=True):
        look: dict[str, Any] = {"color": style.INK, "lw": 1.2}
        look["marker"] = marker[value] if marker[value] in drawn else ""
        look["ls"] = dashed[value] if column == "patch" and joined else "none"
        if look["marker"] or look["ls"] != "none":
            text = f"patch {value:g}" if column == "patch" else str(value)
            found.append(entry(text, **look))
    return found


def entry(text: str, **look: Any) -> Line2D:
    points = 0.5 * float(mpl.rcParams["font.size"])
    return Line2D([], [], label=style.literal(text), **{"ms": points, **look})
