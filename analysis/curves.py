"""What the panels share: recipes apart, means over seeds, curves and bubbles with names, axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import colors as mcolors
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from analysis import style
from analysis.grid import axis_label
from analysis.labels import label
from analysis.seeds import SERIES, draw_interval, over_seeds
from analysis.table import RECIPE, RUN, TableError

NAMED = {"batch_size": "batch", "sampling_steps": "steps", "guidance": "cfg"}


def apart(table: pd.DataFrame, metric: str = "fid", unit: str = "model") -> pd.DataFrame:
    """Returns the table with every recipe of a model as a model of its own.

    Its name then has what varies, which the column `recipe` repeats: 'DiT-S/4, lr 0.003'.
    """
    table = table.reset_index(drop=True)
    placed = table["metric"].eq(metric) & table["gflops"].gt(0) & table["step"].gt(0)
    recipe = recipes(table[placed], unit)
    recipe = recipe.reindex(table.index, fill_value="")
    model = table["model"].where(recipe.eq(""), table["model"] + ", " + recipe)
    return table.assign(model=model, recipe=recipe)


def recipes(rows: pd.DataFrame, unit: str) -> pd.Series:
    """Returns what varies between the recipes of each model, as text; empty where nothing does.

    Where one value of a field covers every model, as in the paper, that one is drawn, and the
    rest are no recipes of the study.
    """
    parts = pd.Series("", index=rows.index)
    for _, study in rows.groupby("study"):
        for field in RECIPE:
            several = study.groupby("model")[field].transform("nunique", dropna=False) > 1
            covered = study.groupby(field, dropna=False)[unit].nunique()
            if field != unit and several.any() and (covered == study[unit].nunique()).sum() != 1:
                values = [value_text(field, value) for value in study.loc[several, field]]
                parts.loc[several[several].index] += [f", {value}" for value in values]
    return parts.str.removeprefix(", ")


def value_text(field: str, value: Any) -> str:
    """Returns 'lr 0.003', 'batch 256', 'ddim': a word needs no name before it."""
    return value if isinstance(value, str) else f"{NAMED.get(field, field)} {text(value)}"


def text(value: Any) -> str:
    """Returns a word as it is, a number without the zeros of a float."""
    return value if isinstance(value, str) else f"{value:g}"


def names(rows: pd.DataFrame, every: pd.DataFrame) -> list[str]:
    """Returns 'XL/2' where all drawn are of one family, and what else varies.

    Where the rows are recipes of one model, it is what varies alone. Of several families, which
    have colours, the largest model bears the family's name, and markers tell the sizes.
    """
    one = rows[["size", "patch"]].drop_duplicates().shape[0] == 1 and rows["recipe"].nunique() > 1
    several = style.several_families(every)
    largest = rows.loc[rows.groupby("family")["gflops"].idxmax(), "model"] if several else []
    alike = several and rows.groupby(["family", "size"])["patch"].nunique().max() < 2
    studies = every["study"].nunique() > 1
    found = []
    for _, row in rows.iterrows():
        short = row["size"] and np.isfinite(row["patch"])
        name = f"{row['size']}/{row['patch']:g}" if short else row["model"].split(", ")[0]
        if several and row["size"]:
            last = row["model"] in set(largest)
            name = (row["family"] if last else "") if alike else row["model"] if last else name
        parts = ["" if one else name, row.get("recipe", ""), row["study"] if studies else ""]
        found.append(", ".join(filter(None, parts)))
    return found


def draw_curves(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    every: pd.DataFrame | None = None,
    texts: str = "",
    inks: Mapping[Any, str] | None = None,
    **line: Any,
) -> None:
    """Draws a recipe's mean over seeds as one line, its 95 % interval as a band, and names it.

    `every` are all rows of the figure, of which `rows` are the panel's. `texts` is a column with
    other names; `inks` are the colours of those names, in place of the sizes'.
    """
    every = rows if every is None else every
    marks, named, colours = [], [], []
    look_of = style.line_styles(every)
    by = [name for name in (*SERIES, "recipe", "protocol") if name in rows and name != x]
    found = over_seeds(rows, x)
    found = found.assign(name=found[texts] if texts else names(found, every))
    for _, curve in found.groupby(by, sort=False, dropna=False, observed=True):
        curve = curve.sort_values(x)
        look = {**look_of(curve.iloc[0]), **line}
        if inks:
            look |= style.inked(look, inks[curve["name"].iloc[0]])
        draw_interval(ax, curve, x, look["color"], look.get("linestyle"))
        ax.plot(curve[x], curve["value"], **look)
        marks.append(curve[[x, "value"]].to_numpy(float))
        named.append(str(curve["name"].iloc[0]))
        colours.append(look["color"])
    label(ax, marks, named, colours)


def draw_bubbles(
    ax: Axes, rows: pd.DataFrame, texts: Sequence[str], every: pd.DataFrame | None = None
) -> None:
    """Draws areas in proportion to Gflops, the largest 900 square points on a page."""
    wide = mpl.rcParams["figure.figsize"][0] / style.WIDTHS["page"]
    area = 900 * min(1.3 * wide, 1) * rows["gflops"] / rows["gflops"].max()
    look_of = style.line_styles(rows if every is None else every)
    for (_, row), size in zip(rows.iterrows(), area, strict=True):
        edge = look_of(row)["color"]
        face = mcolors.to_rgba(edge, 0.85 if row["source"] == "measured" else 0.18)
        colours = {"edgecolors": edge, "linewidths": 1, "label": row["model"]}
        ax.scatter(row["x"], row["value"], size, [face], **colours)
        draw_interval(ax, row.to_frame().T, "x", style.INK, "none")
    marks = rows[["x", "value"]].to_numpy(float)[:, None]
    label(ax, list(marks), texts, [style.INK] * len(rows), np.sqrt(area / np.pi))


def log_axis(axis: Axis, low: float, high: float, decades: bool = False) -> None:
    """Makes an axis logarithmic from low to high, with two labelled ticks at least.

    Labels are plain numbers from 0.0001 to 100,000; `decades` names powers of ten alone.
    """
    axis.axes.set_xscale("log") if isinstance(axis, XAxis) else axis.axes.set_yscale("log")
    within = np.floor(np.log10(high)) - np.ceil(np.log10(low))
    if decades and within < 1:
        low, high = (
            min(low, 10 ** np.floor(np.log10(low))),
            max(high, 10 ** np.ceil(np.log10(high))),
        )
    subs = (1.0,) if within > 1 or decades else (1.0, 2.0, 3.0, 5.0) if high > 4 * low else NEAR
    axis.set_major_locator(LogLocator(subs=subs, numticks=most_ticks(axis)))
    axis.set_major_formatter(FuncFormatter(number))
    axis.set_minor_formatter(NullFormatter())
    axis.axes.set_xlim(low, high) if isinstance(axis, XAxis) else axis.axes.set_ylim(low, high)


def most_ticks(axis: Axis) -> int:
    """Returns how many labels of 10,000 an axis has space for, at most 12."""
    ax, fig = axis.axes, axis.get_figure(root=True)
    assert fig is not None
    if not isinstance(axis, XAxis):
        return 12
    return int(np.clip(ax.get_position().width * fig.get_figwidth() / style.em() / 3.6, 3, 12))


# Ticks of a logarithmic axis that spans less than a factor of 4.
NEAR = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)


def number(value: float, place: int | None = None) -> str:
    """Returns 0.01, 25, 10,000, and beyond 1e6: an exponent above the line would be below 6 pt."""
    if 0.9e-4 < value < 1.1e5:
        return f"{value:,.6g}"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(power)}"


def score_axis(ax: Axes, values: pd.Series, shape: str = "log") -> None:
    """Sets the limits of the scores, for all panels of a figure alike: log where all are above 0.

    Scores that differ by less than a factor of 1.5 are on a linear axis.
    """
    low, high = float(values.min()), float(values.max())
    if shape == "log" and low > 0 and high > 1.5 * low:
        margin = (high / low) ** 0.1
        log_axis(ax.yaxis, low / margin, high * margin)
    else:
        margin = 0.18 * (high - low) or 0.05 * abs(high) or 1
        ax.set_ylim(low - margin, high + margin)


def compute_axis(ax: Axes, values: pd.Series) -> None:
    """Sets a logarithmic x axis with space for names at both ends."""
    low, high = float(values.min()), float(values.max())
    margin = max((high / low) ** 0.1, 1.5)
    log_axis(ax.xaxis, low / margin, high * margin, decades=True)


def step_axis(ax: Axes, steps: pd.Series, texts: Sequence[str] = ()) -> None:
    """Sets an x axis of steps, from 0, with space for the names at the right."""
    ax.set_xlim(0, float(steps.max()) / (1 - name_share(ax, texts)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    ax.set_xlabel("Training steps")


def set_title(ax: Axes, text: str) -> None:
    """Writes a title, with more lines where it is longer than the panel is wide."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    # 0.68 em of a bold letter; a title may reach into the margin at the right.
    width = int((ax.get_position().width * fig.get_figwidth() / style.em() + 1) / 0.68)
    lines = [fill(line, max(width, 12)) for line in text.split("\n")]
    ax.set_title(style.literal("\n".join(lines)), loc="left")


def name_share(ax: Axes, texts: Sequence[str]) -> float:
    """Returns the part of the axis that the longest name needs, at most 0.4."""
    fig = ax.get_figure(root=True)
    assert fig is not None
    width = ax.get_position().width * fig.get_figwidth() / style.em()
    return float(min((0.56 * max(map(len, texts), default=4) + 0.8) / width, 0.4))


def label_score(ax: Axes, rows: pd.DataFrame) -> None:
    """Names the score at its axis, on two lines where one is longer than the panel is high."""
    text, fig = style.literal(axis_label(rows)), ax.get_figure(root=True)
    assert fig is not None
    height = ax.get_position().height * fig.get_figheight() / style.em()
    ax.set_ylabel(text if 0.6 * len(text) < height else text.replace(" (", "\n("))


def panel_title(only: Mapping[str, Any]) -> str:
    """Returns 'Patch 2', 'Size XL'."""
    parts = [f"{field.capitalize()} {text(value)}" for field, value in only.items()]
    return style.literal(", ".join(parts))


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns every run at the last step, and incomplete runs at their own."""
    return rows[rows["last"] | ~rows["complete"]].groupby(RUN, dropna=False).tail(1)


def until_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows up to the last step: the paper trained one model 17 times longer."""
    return rows[rows["step"].le(float(rows.loc[rows["last"], "step"].max()))]


def select(rows: pd.DataFrame, only: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the rows with these values.

    Raises:
        TableError: there are none.
    """
    for field, value in only.items():
        rows = rows[rows[field] == value]
    if rows.empty:
        wanted = ", ".join(f"{field} {value}" for field, value in only.items())
        raise TableError(f"no model of {wanted} in the table: train and score one")
    return rows
