"""The paper's Tables 1-6 as it prints them, and the same tables of a measured study."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.table import RUN, TableError, metric_name

HEADINGS = {
    "model": "Model",
    "data": "Data",
    "gflops": "Gflops (multiply-adds / 10⁹)",
    "params": "Params (M)",
    "step": "Steps",
    "batch_size": "Batch size",
    "lr": "Learning rate",
    "conditioning": "Block",
    "guidance": "Guidance",
    "decoder": "Decoder",
    "protocol": "Protocol",
    "depth": "Layers",
    "width": "Hidden size",
    "heads": "Heads",
}
COUNTS = (HEADINGS["depth"], HEADINGS["width"], HEADINGS["heads"])


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its caption, its leading columns, and which measured rows it shows.

    `across` is the column whose values become the other columns.
    """

    caption: str
    columns: tuple[str, ...]
    measured: Callable[[pd.DataFrame], pd.Series]
    across: str = "metric"


PAPER_TABLES = {
    "table_1": PaperTable(
        "Details of the models, Gflops at patch 4.",
        ("model", "params", "gflops"),
        lambda rows: rows["metric"].eq("fid") & rows["patch"].eq(4),
    ),
    "table_2": PaperTable(
        "Every metric of every model.",
        ("model", "guidance", "protocol"),
        lambda rows: rows["data"].ne("imagenet512"),
    ),
    "table_3": PaperTable(
        "Every metric at 512 px.",
        ("model", "guidance", "protocol"),
        lambda rows: rows["data"].eq("imagenet512"),
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
    "table_6": PaperTable(
        "Gflops of the U-Nets.", ("model",), lambda rows: rows["metric"].eq("gflops"), across="data"
    ),
}


def paper_table(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table as text: published rows that cite it, measured rows at their last step.

    Raises:
        TableError: no row belongs in it.
    """
    layout = PAPER_TABLES[name]
    cites = table["source"].str.endswith(f", {name.replace('_', ' ').capitalize()}")
    last = table["step"] == table.groupby(RUN, dropna=False)["step"].transform("max")
    rows = table[cites | (table["source"].eq("measured") & last & layout.measured(table))]
    if rows.empty:
        raise TableError(f"no row belongs in it ({layout.caption.rstrip('.').lower()})")
    texts = {HEADINGS[name]: texts_of(rows[name], name) for name in layout.columns}
    wide = pd.DataFrame({**texts, "across": headings_across(rows, layout), "value": rows["value"]})
    keys = [*texts, "across"]
    wide = wide.groupby(keys, sort=False)["value"].mean().unstack(sort=False)
    for heading in wide:
        wide[heading] = [number_text(value, str(heading)) for value in wide[heading]]
    wide = wide.reset_index().rename_axis(columns=None)
    return wide[[heading for heading in wide if wide[heading].ne("").any()]]


def headings_across(rows: pd.DataFrame, layout: PaperTable) -> list[str]:
    if layout.across != "metric":
        return list(rows[layout.across])
    pairs = zip(rows["metric"], rows["features"], strict=True)
    return [HEADINGS.get(metric, metric_name(metric, features)) for metric, features in pairs]


def texts_of(column: pd.Series, name: str) -> pd.Series:
    """Returns the column's values as the paper prints them; a missing one is empty."""
    formats: dict[str, Callable[[float], str]] = {
        "params": lambda value: f"{value / 1e6:.3g}",
        "step": lambda value: f"{value:,.0f}",
        "gflops": lambda value: f"{value:.2f}" if value > 0.1 else f"{value:.3g}",
    }
    text = formats.get(name, "{:g}".format)
    texts = [
        value if isinstance(value, str) else "" if pd.isna(value) else text(value)
        for value in column
    ]
    return pd.Series(texts, column.index, dtype=object)


def number_text(value: float, heading: str) -> str:
    """Returns a value with the paper's decimals: none for counts, 4 for KID, else 2."""
    if pd.isna(value):
        return "\N{EN DASH}"
    if heading in COUNTS or heading.startswith("imagenet"):
        return f"{value:.0f}"
    return f"{value:.4f}" if heading.startswith("KID") else f"{value:.2f}"
