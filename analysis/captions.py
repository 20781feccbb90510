"""What a page states about the table it was made from."""

from __future__ import annotations

import pandas as pd

from analysis.grid import axis_label, grid
from analysis.table import TableError, digest, listed


def situation(table: pd.DataFrame) -> str:
    """States what the figures show: score, protocol, step, n, and the incomplete models."""
    try:
        rows = grid(table)
    except TableError as reason:
        return f"{reason}."
    last = rows[rows["last"]]
    behind = listed(rows.loc[~rows["complete"], "model"])
    grey = "" if behind == "nothing" else f"; grey, incomplete: {behind}"
    return (
        f"{axis_label(rows)}, protocol {listed(rows['protocol'])}, n = {last['model'].nunique()}"
        f" models at step {last['step'].max():,.0f}{grey}."
    )


def left_out(table: pd.DataFrame) -> list[str]:
    """States how many scores the main figures do not show, being of another protocol."""
    try:
        drawn = set(grid(table)["protocol"])
    except TableError:  # reported where the figures are missing
        return []
    sized = table["metric"].eq("fid") & table["size"].ne("")
    others = table[sized & ~table["protocol"].isin(drawn)]
    if others.empty:
        return []
    protocols = listed(others["protocol"])
    return [f"Not in the main figures: {len(others)} scores under {protocols}."]


def provenance(table: pd.DataFrame) -> dict[str, str]:
    """Returns the table's digest and the distinct values of the columns that name its origin."""
    columns = ["study", "source", "protocol", "features", "reference", "commit", "device"]
    texts = {name: listed(table.loc[table[name].ne(""), name]) for name in columns}
    return {
        "table": digest(table),
        **{name: text for name, text in texts.items() if text != "nothing"},
    }
