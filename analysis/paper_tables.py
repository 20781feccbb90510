"""The paper's Tables 1-6 as it prints them, and the same tables of a measured study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.table import LOSSES, RECIPE, RUN, TableError, metric_name

HEADINGS = {
    "model": "Model",
    "data": "Data",
    "gflops": "Gflops (multiply-adds / 10⁹)",
    "params": "Params (M)",
    "step": "Steps",
    "batch_size": "Batch size",
    "lr": "Learning rate",
    "conditioning": "Block",
    "others": "Recipe",
    "guidance": "Guidance",
    "sampler": "Sampler",
    "sampling_steps": "Sampling steps",
    "decoder": "Decoder",
    "weights": "Weights",
    "labels": "Labels",
    "n": "Images",
    "reference": "Reference",
    "protocol": "Protocol",
    "depth": "Layers",
    "width": "Hidden size",
    "heads": "Heads",
}
COUNTS = ("depth", "width", "heads")
# Rows that differ in one of these are never averaged: the field becomes a column.
APART = ("data", "step", *RECIPE)
SCORING = (
    *("guidance", "sampler", "sampling_steps", "decoder", "weights", "labels", "n", "reference"),
    "protocol",
)

BOUNDS = ("_low", "_high")  # endings of metrics that bound another


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its caption, its leading columns, and which measured rows it shows.

    `across` is the column whose values become the other columns.
    """

    caption: str
    columns: tuple[str, ...]
    measured: Callable[[pd.DataFrame], pd.Series]
    across: str = "metric"


def no_row(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(False, rows.index)


PAPER_TABLES = {
    "table_1": PaperTable(
        "Details of the models, Gflops at patch 4.", ("model", "params", "gflops"), no_row
    ),
    "table_2": PaperTable(
        "Every metric of every model.", ("model",), lambda rows: rows["data"].ne("imagenet512")
    ),
    "table_3": PaperTable(
        "Every metric at 512 px.", ("model",), lambda rows: rows["data"].eq("imagenet512")
    ),
    "table_4": PaperTable(
        "Every model, how it was trained, and its score.",
        ("model", "data", "gflops", "params", "step", "batch_size", "lr", "conditioning"),
        lambda rows: rows["metric"].eq("fid"),
    ),
    "table_5": PaperTable(
        "Decoders.",
        ("model", "guidance", "decoder"),
        lambda rows: rows.groupby("model")["decoder"].transform("nunique").gt(1),
    ),
    "table_6": PaperTable("Gflops of the U-Nets.", ("model",), no_row, across="data"),
}


def paper_table(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table as text, seeds as mean ± standard deviation (number of runs).

    Raises:
        TableError: no row belongs in it.
    """
    numbers = table_numbers(name, table)
    across = PAPER_TABLES[name].across
    if across == "metric":  # bounds have no column of their own: the CSV has them
        numbers = numbers[~numbers["metric"].str.endswith(BOUNDS)]
    keys = [field for field in numbers if field in HEADINGS and field != across]
    texts = {HEADINGS[field]: texts_of(numbers[field], field) for field in keys}
    across_texts = numbers[across] if across != "metric" else headings_of(numbers)
    cells = numbers.apply(cell_text, axis=1, field=across)
    wide = pd.DataFrame({**texts, "across": across_texts, "cell": cells})
    wide = wide.pivot(index=list(texts), columns="across", values="cell")
    wide = wide.reindex(index=distinct(wide.index, texts), columns=across_texts.unique())
    return wide.fillna("\N{EN DASH}").reset_index().rename_axis(columns=None)


def distinct(index: pd.Index, texts: dict[str, pd.Series]) -> pd.Index:
    """Returns the index in the order in which its entries first occur: pivot sorts them."""
    found = pd.DataFrame(texts).drop_duplicates()
    return pd.MultiIndex.from_frame(found) if index.nlevels > 1 else pd.Index(found.iloc[:, 0])


def table_numbers(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table's numbers: one row per cell, with the mean, sd and number of its seeds.

    Published rows are those that cite it, measured rows those of a run's last step. Two rows are
    averaged only if they differ in nothing but the seed.

    Raises:
        TableError: no row belongs in it.
    """
    rows = rows_of(name, table)
    shown = columns_of(name, rows)
    return rows.groupby(shown, sort=False, dropna=False, as_index=False).agg(
        value=("value", "mean"), sd=("value", "std"), seeds=("value", "size")
    )


def columns_of(name: str, rows: pd.DataFrame) -> list[str]:
    """Returns the columns that tell the rows apart; those alike in all measured rows are left out.

    A field of the recipe or the protocol becomes a column where rows would be averaged over it.
    """
    layout = PAPER_TABLES[name]
    alike = alike_in_all(name, rows)
    shown = [field for field in layout.columns if field not in alike and not is_empty(rows[field])]
    across = [layout.across, *(["features"] if layout.across == "metric" else [])]
    for field in (*APART, *SCORING):
        if field not in shown and differs_within(rows, [*shown, *across], field):
            shown.append(field)
    return [*shown, *across]


def alike_in_all(name: str, rows: pd.DataFrame) -> dict[str, str]:
    """Returns the leading columns, but the model, that hold one value in all measured rows."""
    if len(rows) < 2 or not rows["source"].eq("measured").all():
        return {}
    fields = [field for field in PAPER_TABLES[name].columns if field != "model"]
    same = [field for field in fields if rows[field].nunique(dropna=False) == 1]
    return {
        field: str(texts_of(rows[field], field).iloc[0])
        for field in same
        if not is_empty(rows[field])
    }


def caption_of(name: str, table: pd.DataFrame) -> str:
    """Returns the caption, with what is alike in all rows, and how seeds are shown.

    Raises:
        TableError: no row belongs in it.
    """
    alike = alike_in_all(name, rows_of(name, table))
    parts = [PAPER_TABLES[name].caption]
    if alike:
        parts.append(
            "All: " + ", ".join(f"{HEADINGS[f].lower()} {t}" for f, t in alike.items()) + "."
        )
    numbers = table_numbers(name, table)
    if numbers["seeds"].gt(1).any():
        parts.append("Mean ± standard deviation over seeds (number of runs).")
    if PAPER_TABLES[name].across == "metric" and numbers["metric"].str.endswith(BOUNDS).any():
        parts.append("The CSV has the bounds of FID∞.")
    return " ".join(parts)


def rows_of(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of a table, measured ones in order of Gflops.

    Raises:
        TableError: no row belongs in it.
    """
    layout = PAPER_TABLES[name]
    cites = table["source"].str.endswith(f", {name.replace('_', ' ').capitalize()}")
    last = table["step"] == table.groupby(RUN, dropna=False)["step"].transform("max")
    measured = table["source"].eq("measured")
    rows = table[cites | (measured & last & layout.measured(table))]
    if rows.empty:
        raise TableError("no row of this study belongs in it")
    by_cost = rows.sort_values("gflops", kind="stable")
    return by_cost if rows["source"].eq("measured").all() else rows


def differs_within(rows: pd.DataFrame, fields: list[str], field: str) -> bool:
    """Returns whether rows that agree in `fields` differ in `field`."""
    return bool(rows.groupby(fields, dropna=False)[field].nunique(dropna=False).gt(1).any())


def is_empty(column: pd.Series) -> bool:
    return bool((column.isna() | column.eq("")).all())


def headings_of(numbers: pd.DataFrame) -> pd.Series:
    pairs = zip(numbers["metric"], numbers["features"], strict=True)
    names = [HEADINGS.get(metric, metric_name(metric, features)) for metric, features in pairs]
    return pd.Series(names, numbers.index)


def texts_of(column: pd.Series, name: str) -> pd.Series:
    """Returns the column's values as the paper prints them; a missing one is empty."""
    formats: dict[str, Callable[[float], str]] = {
        "params": lambda value: f"{value / 1e6:.3g}",
        "step": lambda value: f"{value:,.0f}",
        "n": lambda value: f"{value:,.0f}",
        "gflops": lambda value: f"{value:.2f}" if value > 0.1 else f"{value:.3g}",
    }
    text = formats.get(name, "{:g}".format)
    texts = [
        value if isinstance(value, str) else "" if pd.isna(value) else text(value)
        for value in column
    ]
    return pd.Series(texts, column.index, dtype=object)


def cell_text(row: pd.Series, field: str) -> str:
    """Returns '153.60', or '153.60 ± 2.31 (3)' of three seeds."""
    text = number_text(row["value"], row[field])
    if row["seeds"] < 2:
        return text
    return f"{text} ± {number_text(row['sd'], row[field])} ({row['seeds']})"


def number_text(value: float, name: str) -> str:
    """Returns a value with the paper's decimals: none for counts, 4 for KID and losses, else 2."""
    if name in COUNTS or name.startswith("imagenet"):
        return f"{value:.0f}"
    # A loss falls by a third over four decades of compute: its third digit tells models apart.
    return f"{value:.4f}" if name.startswith(("kid", "val_", *LOSSES)) else f"{value:.2f}"
