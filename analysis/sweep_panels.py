"""Panels of sweeps: the score over guidance, sampling steps, learning rate, what else varies."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from analysis import style
from analysis.axes import label_score, log_axis, score_axis
from analysis.curves import draw_curves, value_text
from analysis.table import HIGHER_IS_BETTER, RECIPE, TableError, listed

TITLES = {
    "guidance": "Guidance scale",
    "sampling_steps": "Sampling steps",
    "lr": "Learning rate",
    "batch_size": "Batch size",
    "decoder": "Decoder",
    "sampler": "Sampler",
}
# Scores under different ones of these are different quantities, whatever the sweep.
QUANTITY = ["study", "data", "features", "n", "reference"]
PROTOCOL = ["sampler", "sampling_steps", "guidance", "guidance_channels", "decoder", "weights"]
# The axis of these is logarithmic.
RATIOS = ("sampling_steps", "lr", "batch_size")


def sweep(table: pd.DataFrame, ax: Axes, field: str, metric: str = "fid") -> Axes:
    """Draws a score over a field that a sweep varies, all else alike, at the last common step.

    Each curve is named after the model and what else differs between the curves.

    Raises:
        TableError: no curve has two values of the field.
    """
    rows = comparable(table, field, metric)
    named = differing(
        rows, [name for name in (*RECIPE, *PROTOCOL) if name not in (field, "guidance_channels")]
    )
    rows = rows.assign(curve=curve_names(rows, named), complete=True, recipe="")
    looks = dict(zip(rows["curve"].unique(), style.ramp(rows["curve"].nunique()), strict=True))
    place_values(ax, rows, field)
    score_axis(ax, rows["value"])
    ax.set(xlabel=TITLES[field])
    label_score(ax, rows)
    title = f"{listed(rows['data'])}, step {rows['step'].iloc[0]:,.0f}"
    ax.set_title(style.literal(title), loc="left")
    # The swept field is the axis, and no longer what tells one curve from another.
    shown = rows.assign(x=positions(rows[field]), protocol=rows["curve"])
    shown = shown.assign(**{field: rows[field].iloc[0]})
    draw_curves(ax, shown, "x", rows, texts="curve", inks=looks)
    draw_best(ax, shown, metric)
    return ax


def comparable(table: pd.DataFrame, field: str, metric: str) -> pd.DataFrame:
    """Returns the rows of one quantity at one step that a sweep of the field scored.

    Of several quantities or steps it is that with most values of the field, then the later one.

    Raises:
        TableError: no model has two values of the field, all else alike.
    """
    rows = table[(table["metric"] == metric) & table["gflops"].gt(0) & known(table[field])].copy()
    rows = rows[rows["source"].eq("measured") | rows["source"].str.contains("Figure|Table")]
    # Without guidance no channel is guided: that score belongs to the scale of every other one.
    guided = rows.loc[rows["guidance"].gt(1), "guidance_channels"].mode()
    if len(guided):
        rows["guidance_channels"] = rows["guidance_channels"].where(
            rows["guidance"].gt(1), guided[0]
        )
    rows = rows.drop_duplicates([*QUANTITY, "model", "seed", "step", *RECIPE, *PROTOCOL])
    alike = [name for name in (*QUANTITY, "model", "step", *RECIPE, *PROTOCOL) if name != field]
    if field == "sampling_steps":  # a sampler with one number of steps stands beside the others
        alike.remove("sampler")
    several = rows.groupby(alike, dropna=False)[field].transform("nunique") > 1
    swept = rows[several]
    if swept.empty:
        raise TableError(
            f"one {TITLES[field].lower()} only ({listed(table[field])}): sweep several"
        )
    counts = swept.groupby([*QUANTITY, "step"], dropna=False)[field].agg(["nunique", "size"])
    chosen = counts.sort_values(["nunique", "size"], kind="stable").index[-1]
    for name, value in zip((*QUANTITY, "step"), chosen, strict=True):
        swept = swept[swept[name].eq(value) | (swept[name].isna() & pd.isna(value))]
    return swept.sort_values(["gflops", "model", field])


def swept(table: pd.DataFrame) -> list[list[dict[str, str]]]:
    """Returns the arguments of a panel for each field that the table's FID is swept over.

    Raises:
        TableError: nothing is swept.
    """
    fields = []
    for field in TITLES:
        try:
            comparable(table, field, "fid")
        except TableError:
            continue
        fields.append({"field": field})
    if not fields:
        names = ", ".join(TITLES.values()).lower()
        raise TableError(f"no model has scores at several values of {names}: sweep one")
    return [fields]


def known(values: pd.Series) -> pd.Series:
    return values.ne("") if values.dtype.kind not in "fi" else values.gt(0)


def differing(rows: pd.DataFrame, fields: list[str]) -> list[str]:
    return [name for name in fields if rows[name].nunique(dropna=False) > 1]


def curve_names(rows: pd.DataFrame, fields: list[str]) -> list[str]:
    """Returns 'XL/2, ddim' for each row: the model, and its values of the fields."""
    found = []
    for _, row in rows.iterrows():
        short = row["size"] and row["patch"] > 0
        model = f"{row['size']}/{row['patch']:g}" if short else row["model"]
        texts = [value_text(name, row[name]) for name in fields if not pd.isna(row[name])]
        found.append(", ".join([model, *texts]))
    return found


def positions(values: pd.Series) -> pd.Series:
    """Returns numbers as they are, and words as places from 0."""
    if values.dtype.kind in "fi":
        return values
    order = list(dict.fromkeys(values))
    return values.map(lambda value: float(order.index(value)))


def place_values(ax: Axes, rows: pd.DataFrame, field: str) -> None:
    """Sets the axis of a field with space for names at the right."""
    x = positions(rows[field])
    if field in RATIOS:
        stretch = (x.max() / x.min()) ** 0.12
        log_axis(ax.xaxis, x.min() / stretch, x.max() * stretch**3)
        ax.set_xticks(sorted(set(x)), [f"{value:g}" for value in sorted(set(x))])
        ax.xaxis.set_minor_locator(NullLocator())
        return
    width = x.max() - x.min()
    ax.set_xlim(x.min() - 0.08 * width, x.max() + 0.3 * width)
    if rows[field].dtype.kind not in "fi":
        texts = dict(zip(x, rows[field], strict=True))
        ax.set_xticks(list(texts), [style.literal(text) for text in texts.values()])


def draw_best(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """Draws a ring around the best score of each curve with three values or more."""
    ring: dict[str, Any] = {"mfc": "none", "mec": style.INK, "ms": 9, "ls": "none", "label": "best"}
    for _, curve in rows.groupby("curve"):
        means = curve.groupby("x")["value"].mean()
        best = int((means if metric in HIGHER_IS_BETTER else -means).argmax())
        if len(means) > 2:
            ax.plot([means.index[best]], [means.iloc[best]], "o", zorder=1.5, **ring)
