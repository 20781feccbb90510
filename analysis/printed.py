"""The paper's Tables 1-6 as it prints them, and the same tables of a measured study."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.tables import RUN, metric_name

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


@dataclass(frozen=True)
class Printed:
    """A table of the paper: its caption, its leading columns, and which measured rows belong in it."""

    caption: str
    columns: tuple[str, ...]
    measured: Callable[[pd.DataFrame], pd.Series]
    across: str = "metric"


TABLES = {
    "table_1": Printed(
        "Details of the models, Gflops at patch 4.",
        ("model", "params", "gflops"),
        lambda rows: rows["metric"].eq("fid") & rows["patch"].eq(4),
    ),
    "table_2": Printed(
        "Every metric of every model.",
        ("model", "guidance", "protocol"),
        lambda rows: rows["data"].ne("imagenet512"),
    ),
    "table_3": Printed(
        "Every metric at 512 px.",
        ("model", "guidance", "protocol"),
        lambda rows: rows["data"].eq("imagenet512"),
    ),
    "table_4": Printed(
        "Every model, how it was trained, and its score.",
        ("model", "data", "gflops", "params", "step", "batch_size", "lr", "conditioning"),
        lambda rows: rows["metric"].eq("fid"),
    ),
    "table_5": Printed(
        "Decoders.",
        ("model", "guidance", "decoder"),
        lambda rows: rows.groupby("model")["decoder"].transform("nunique").gt(1),
    ),
    "table_6": Printed(
        "Gflops of the U-Nets.", ("model",), lambda rows: rows["metric"].eq("gflops"), across="data"
    ),
}


def printed(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """One of the tables: published rows that name it as their source, and measured rows at their run's last step."""
    layout, of_paper = (
        TABLES[name],
        table["source"].str.endswith(f", {name.replace('_', ' ').capitalize()}"),
    )
    last = table["step"] == table.groupby(RUN, dropna=False)["step"].transform("max")
    rows = table[of_paper | (table["source"].eq("measured") & last & layout.measured(table))]
    if rows.empty:
        raise ValueError(f"no row belongs in it ({layout.caption.rstrip('.').lower()})")
    rows = rows.assign(
        **{column: _text(rows[column], column) for column in layout.columns},
        across=_across(rows, layout),
    )
    keys = [*layout.columns, "across"]
    found = rows.groupby(keys, sort=False)["value"].mean().unstack(sort=False)
    for heading in found:
        found[heading] = [_number(value, str(heading)) for value in found[heading]]
    found = found.reset_index().rename_axis(columns=None).rename(columns=HEADINGS)
    return found[[heading for heading in found if found[heading].ne("").any()]]


def _across(rows: pd.DataFrame, layout: Printed) -> list[str]:
    if layout.across != "metric":
        return list(rows[layout.across])
    pairs = zip(rows["metric"], rows["features"], strict=True)
    return [HEADINGS.get(metric, metric_name(metric, features)) for metric, features in pairs]


def _text(column: pd.Series, name: str) -> pd.Series:
    forms = {
        "params": lambda v: f"{v / 1e6:.3g}",
        "step": lambda v: f"{v:,.0f}",
        "gflops": lambda v: f"{v:.2f}" if v > 0.1 else f"{v:.3g}",
    }
    shown = forms.get(name, lambda v: f"{v:g}")
    return column.map(lambda v: v if isinstance(v, str) else "" if pd.isna(v) else shown(v)).astype(
        object
    )


def _number(value: float, heading: str) -> str:
    if pd.isna(value):
        return "\N{EN DASH}"
    whole = heading in (
        HEADINGS["depth"],
        HEADINGS["width"],
        HEADINGS["heads"],
    ) or heading.startswith("imagenet")
    return f"{value:.0f}" if whole else f"{value:.{4 if heading.startswith('KID') else 2}f}"
