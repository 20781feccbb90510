"""What the panels share: recipes apart, means over seeds, curves and bubbles with names, axes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import colors as mcolors
from matplotlib.axes import Axes

from analysis import style
from analysis.axes import text
from analysis.grid import has_own_steps
from analysis.labels import label
from analysis.memo import remembered
from analysis.seeds import SERIES, draw_interval, over_seeds
from analysis.table import RECIPE, RUN, TableError

NAMED = {"batch_size": "batch", "sampling_steps": "steps", "guidance": "cfg"}


@remembered
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
                parts.loc[several[several].index] += [value and f", {value}" for value in values]
    return parts.str.removeprefix(", ")


def value_text(field: str, value: Any) -> str:
    """Returns 'lr 0.003', 'batch 256', 'ddim': a word needs no name before it."""
    return value if isinstance(value, str) else f"{NAMED.get(field, field)} {text(value)}"


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
        model = row["model"].split(", ")[0]
        name = short_name(row, model) if row["size"] and np.isfinite(row["patch"]) else model
        if several and row["size"]:
            last = row["model"] in set(largest)
            name = (row["family"] if last else "") if alike else row["model"] if last else name
        parts = ["" if one else name, row.get("recipe", ""), row["study"] if studies else ""]
        found.append(", ".join(filter(None, parts)))
    return found


def short_name(row: pd.Series, model: str) -> str:
    """Returns 'XL/2' of 'DiT-XL/2', and 'S/2x4' of a model of tubes, whose patch is no number."""
    tube = re.search(r"/\d+x\d+$", model)
    return f"{row['size']}{tube[0]}" if tube else f"{row['size']}/{row['patch']:g}"


def draw_curves(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    every: pd.DataFrame | None = None,
    texts: str = "",
    inks: Mapping[Any, str] | None = None,
    noise: pd.DataFrame | None = None,
    **line: Any,
) -> None:
    """Draws a recipe's mean over seeds as one line, its 95 % interval as a band, and names it.

    `every` are all rows of the figure, of which `rows` are the panel's. `texts` is a column with
    other names; `inks` are the colours of those names, in place of the sizes'. `noise` are the rows
    whose spread over seeds the intervals have, where these are more than the panel's.
    """
    every = rows if every is None else every
    marks, named, colours = [], [], []
    look_of = style.line_styles(every)
    by = [name for name in (*SERIES, "recipe", "protocol") if name in rows and name != x]
    found = over_seeds(rows, x, noise)
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
        if "seeds" in row:
            draw_interval(ax, row.to_frame().T, "x", style.INK, "none")
    marks = rows[["x", "value"]].to_numpy(float)[:, None]
    label(ax, list(marks), texts, [style.INK] * len(rows), np.sqrt(area / np.pi))


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns every run at the last step, and incomplete runs at their own.

    Raises:
        TableError: the runs end at steps of their own.
    """
    if has_own_steps(rows):
        raise TableError("the runs end at steps of their own: the models meet at no last step")
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
