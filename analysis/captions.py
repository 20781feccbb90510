"""What captions and a page state about the table: score, step, seeds, what is not shown."""

from __future__ import annotations

import pandas as pd

from analysis.correlation import correlation, correlation_text
from analysis.curves import apart
from analysis.grid import axis_label, grid, has_own_steps, main_metric
from analysis.left_out import left_out as left_out_rows
from analysis.table import TableError, digest, listed

# Figures of one score on one axis, and what a model must have to be in them.
NEEDS = {
    "figure_02": [],
    "figure_06": [],
    "figure_08": [],
    "figure_09": ["batch_size"],
    "figure_families": ["batch_size", "params"],
    "figure_12": [],
    "figure_prediction": [],
    "figure_residuals": [],
    "figure_joint": ["tokens", "batch_size"],
    "figure_running": [],
    "figure_specification": ["params", "tokens"],
}
# Those that draw a mean over seeds with its interval.
OF_MEANS = ("figure_02", "figure_06", "figure_08", "figure_09", "figure_12", "figure_joint")
# Models that are named one by one; more are counted.
FEW = 3


def caption(name: str, text: str, table: pd.DataFrame) -> str:
    """Returns a figure's caption: its panels, what they show, statistics, what is not shown."""
    if name not in NEEDS:
        return text
    rows = apart(table)
    seeds = seeds_text(rows) if name in OF_MEANS else ""
    found = [text, situation(rows), seeds, not_shown(rows, NEEDS[name])]
    if name == "figure_08":
        found.insert(2, correlations(table))
    return " ".join(filter(None, found))


def seeds_text(table: pd.DataFrame) -> str:
    """States what the bars and bands are; empty with one seed of each model."""
    try:
        counts = grid(table).groupby(["model", "step"])["seed"].nunique()
    except TableError:
        return ""
    least, most = counts.min(), counts.max()
    seeds = f"{least}" if least == most else f"{least} to {most}"
    interval = "their 95 % intervals by the spread of all models of a patch size"
    return f"Means of {seeds} seeds with {interval}." if most > 1 else ""


def not_shown(table: pd.DataFrame, needs: list[str]) -> str:
    """Counts the scores that are on no axis of the figure, by reason; empty where all are."""
    rows = left_out_rows(table, needs=needs)
    # A model behind the last step is drawn in grey.
    rows = rows[~rows["reason"].str.startswith("no score at step")]
    parts = [
        f"{part['scores'].sum()} of {models_text(part['model'])} ({reason})"
        for reason, part in rows.groupby("reason", sort=False)
    ]
    return f"Scores not shown: {'; '.join(parts)}." if parts else ""


def models_text(models: pd.Series) -> str:
    count = models.nunique()
    return listed(models) if count <= FEW else f"{count} models"


def correlations(table: pd.DataFrame) -> str:
    try:
        rows = correlation(table, statistics=["pearson", "spearman"])
    except TableError:  # reported with the statistics
        return ""
    return f"{correlation_text(rows)}."


def situation(table: pd.DataFrame) -> str:
    """States what the figures show: score, protocol, step, n, and the incomplete models."""
    try:
        rows = grid(table, main_metric(table))
    except TableError as reason:
        return f"{reason}."
    last = rows[rows["last"]]
    behind = listed(rows.loc[~rows["complete"], "model"])
    grey = "" if behind == "nothing" else f"; grey, incomplete: {behind}"
    text = f"{axis_label(rows)}, protocol {listed(rows['protocol'])}, n = "
    if has_own_steps(rows):
        return f"{text}{rows['model'].nunique()} models, each at steps of its own."
    return f"{text}{last['model'].nunique()} models at step {last['step'].max():,.0f}{grey}."


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
