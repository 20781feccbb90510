"""The rows of a table that belong on one axis: one protocol, one recipe, one last step."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.table import RUN, TableError, listed, metric_name

# A grid holds one value of each per model; of several, the one that scored every model is taken.
SETTLED = ["data", "conditioning", "batch_size", "lr", "protocol"]
# Rows that differ in one of these are different quantities: they never share an axis.
ONE_AXIS = ["metric", "data", "protocol", "features", "n", "reference"]


def grid(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None, unit: str = "model"
) -> pd.DataFrame:
    """Returns the scores of the size-by-patch grid with compute, and the flags complete and last.

    `unit` is the column in which the curves differ: the model, or the conditioning (Figure 5).

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    rows = table[(table["metric"] == metric) & (table["size"] != "") & table["patch"].notna()]
    rows = rows[rows["protocol"] == protocol] if protocol else rows
    if rows.empty:
        under = f" under {protocol!r}" if protocol else ""
        protocols = f" under {listed(table['protocol'])}" if protocol else ""
        raise TableError(
            f"no {metric}{under} of a model with size and patch: the table has"
            f" {listed(table['metric'])}{protocols}"
        )
    rows = pd.concat([grid_of_study(part, unit) for _, part in rows.groupby("study", sort=False)])
    rows = rows.assign(compute=training_compute(rows))
    return rows.sort_values(["study", "gflops", "model", "seed", "step"])


def grid_of_study(rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    last = last_step(rows, unit)
    for field in SETTLED:
        values = rows.groupby([unit, "model"])[field].nunique(dropna=False)
        if field != unit and values.max() > 1:
            settled = settled_value(rows[rows["step"] == last], field, unit)
            rows = rows[rows[field].isin([settled])]
    one_axis(rows)
    reached = rows.groupby(RUN, dropna=False)["step"].transform("max")
    return rows.assign(complete=reached >= last, last=rows["step"] == last)


def settled_value(rows: pd.DataFrame, field: str, unit: str) -> object:
    """Returns the one value under which every unit was scored.

    Raises:
        TableError: none or several values did; which one counts is the user's choice.
    """
    covered = rows.groupby(field)[unit].nunique()
    full = covered[covered == rows[unit].nunique()]
    if len(full) != 1:
        is_protocol = field == "protocol"
        remedy = (
            "choose one with protocol= or --protocol"
            if is_protocol
            else f"keep the rows of one {field}"
        )
        raise TableError(f"{field} differs on one axis ({listed(rows[field])}): {remedy}")
    return full.index[0]


def last_step(rows: pd.DataFrame, unit: str = "model") -> float:
    """Returns the latest step that half of the units have reached, so that none waits for one."""
    reached = rows.groupby("step")[unit].nunique()
    return float(reached[reached >= min(reached.max(), rows[unit].nunique() / 2)].index.max())


def final(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """Returns one row per model at the last step, the mean over seeds, ordered by Gflops.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    rows = grid(table, metric, protocol)
    rows = rows[rows["last"]]
    by = ["study", "model", "size", "patch", "params", "gflops", "step", "compute"]
    return rows.groupby(by, as_index=False, sort=False).agg(
        value=("value", "mean"), seeds=("value", "size")
    )


def one_axis(rows: pd.DataFrame, fields: Iterable[str] = ONE_AXIS) -> pd.DataFrame:
    """Returns the rows themselves.

    Raises:
        TableError: naming every field in which the rows are different quantities.
    """
    mixed = [
        f"{field} ({listed(rows[field])})"
        for field in fields
        if rows[field].nunique(dropna=False) > 1
    ]
    if mixed:
        raise TableError(
            f"one axis cannot hold different {' and '.join(mixed)}: draw them apart or score them"
            " alike"
        )
    return rows


def axis_label(rows: pd.DataFrame) -> str:
    """Names the values, with N as the paper does: 'FID-50K', 'FID (digits-cnn-1, N = 1,000)'."""
    fields = ["metric", "features", "n"]
    metric, features, n = one_axis(rows, fields)[fields].iloc[0]
    name = metric_name(metric, features)
    if features == "inception":
        return f"{name}-{n / 1000:g}K" if name.endswith("FID") else name
    return f"{metric_name(metric, '')} ({features or 'unknown extractor'}, N = {n:,.0f})"


def training_compute(rows: pd.DataFrame) -> pd.Series:
    """Returns Gflops · batch · steps · 3, as in Figure 9: a backward pass costs two forward."""
    return rows["gflops"] * rows["batch_size"] * rows["step"] * 3
