"""The rows of a table that belong on one axis: one protocol, one recipe, one last step."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from analysis.compute import training_compute
from analysis.memo import remembered
from analysis.models import with_family
from analysis.table import (
    EXTRACTED,
    LOSSES,
    RECIPE,
    RUN,
    TableError,
    listed,
    metric_name,
    uncertain,
)

# A grid holds one value of each per model; of several, the one that scored every model is taken.
SETTLED = ["data", *RECIPE, "protocol"]
# Rows that differ in one of these are different quantities: they never share an axis.
SCORED = "features n reference sampler sampling_steps guidance decoder weights labels".split()
ONE_AXIS = ["metric", "data", "protocol", *SCORED]
# Rows that an average joins: they may differ by seed, and in nothing of SETTLED and ONE_AXIS.
AVERAGED = ["study", "family", "model", "step", "metric", "protocol"]


@remembered
def grid(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None, unit: str = "model"
) -> pd.DataFrame:
    """Returns the scores of every model with Gflops and a step, on one axis per study.

    Added columns: family and tokens (derived where not given), training compute (NaN without a
    batch size), and the flags complete and last. Size is empty and patch NaN where a model has
    none; `left_out` lists what is not among them, such as published values that are second-hand.
    `unit` is the column in which the curves differ: the model, or the conditioning (Figure 5).

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    placed = table["gflops"].gt(0) & table["step"].gt(0) & ~uncertain(table)
    rows = with_family(table[(table["metric"] == metric) & placed])
    rows = over_samplings(rows[rows["protocol"] == protocol] if protocol else rows)
    if rows.empty:
        raise TableError(nothing_placed(table, metric, protocol))
    rows = pd.concat([grid_of_study(part, unit) for _, part in rows.groupby("study", sort=False)])
    rows = rows.assign(compute=training_compute(rows))
    return rows.sort_values(["study", "gflops", "model", "seed", "step"])


def nothing_placed(table: pd.DataFrame, metric: str, protocol: str | None) -> str:
    """States that no score is placed, and what the scores that there are lack."""
    under = f" under {protocol!r}" if protocol else ""
    text = f"no {metric}{under} of a model with Gflops and a step"
    rows = table[table["metric"].eq(metric) & table["protocol"].eq(protocol or table["protocol"])]
    if rows.empty:
        protocols = f" under {listed(table['protocol'])}" if protocol else ""
        return f"{text}: the table has {listed(table['metric'])}{protocols}"
    lacks = {
        "without Gflops": ~rows["gflops"].gt(0),
        "without a step": ~rows["step"].gt(0),
        "not read in its authors' text": uncertain(rows),
    }
    counts = [f"{bad.sum()} {reason}" for reason, bad in lacks.items() if bad.any()]
    return f"{text}: of its {len(rows)} scores {', '.join(counts)}"


def main_metric(table: pd.DataFrame) -> str:
    """Returns FID, or where a table has none the first loss that it has."""
    present = [name for name in ("fid", *LOSSES) if table["metric"].eq(name).any()]
    return present[0] if present else "fid"


def ends(rows: pd.DataFrame) -> pd.Series:
    """Marks the last step of a grid; of runs that end at steps of their own, each model's last."""
    if not has_own_steps(rows):
        return rows["last"]
    return rows["step"].eq(rows.groupby("model")["step"].transform("max"))


def over_samplings(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the scores with those of several sampling seeds as their mean, under the first seed.

    Only where the protocols of a table differ in the seed and in nothing else that it has.
    """
    if "sampling_seed" not in rows or rows["sampling_seed"].nunique() < 2:
        return rows
    also = [name for name in ("guidance_schedule",) if name in rows]
    keys = [*RUN, "step", "metric", *SCORED, "guidance_channels", *also]
    if rows.duplicated([*keys, "sampling_seed"]).any():
        return rows
    rows = rows.sort_values("sampling_seed", kind="stable")
    mean = rows.groupby(keys, dropna=False)["value"].transform("mean")
    return rows.assign(value=mean)[~rows.duplicated(keys)].sort_index()


def grid_of_study(rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    last = last_step(rows, unit)
    for field in SETTLED:
        if rows[field].nunique(dropna=False) == 1:
            continue
        values = rows.groupby([unit, "model"])[field].nunique(dropna=False)
        if field != unit and values.max() > 1:
            settled = settled_value(rows[rows["step"] == last], field, unit)
            rows = rows[rows[field].isin([settled])]
    one_axis(rows)
    reached = rows.groupby(RUN, dropna=False)["step"].transform("max")
    rows = rows.assign(complete=reached >= last, last=rows["step"] == last)
    return rows.assign(complete=True) if has_own_steps(rows) else rows


def has_own_steps(rows: pd.DataFrame) -> bool:
    """Whether the runs of a grid end at steps of their own: most models have no score at the last.

    So do runs of equal compute. Such a study has no step at which its models meet.
    """
    return bool(2 * rows.loc[rows["last"], "model"].nunique() < rows["model"].nunique())


def settled_value(rows: pd.DataFrame, field: str, unit: str) -> object:
    """Returns the one value under which every unit was scored; of protocols, the main one.

    Raises:
        TableError: none or several values did; which one counts is the user's choice.
    """
    covered = rows.groupby(field)[unit].nunique()
    full = list(covered[covered == rows[unit].nunique()].index)
    if field == "protocol" and len(full) > 1:
        full = main_protocols(rows[rows["protocol"].isin(full)])
    if len(full) != 1:
        is_protocol = field == "protocol"
        remedy = (
            "choose one with protocol= or --protocol"
            if is_protocol
            else f"keep the rows of one {field}"
        )
        raise TableError(f"{field} differs on one axis ({listed(rows[field])}): {remedy}")
    return full[0]


def main_protocols(rows: pd.DataFrame) -> list[str]:
    """Returns the protocols of most images, then least guidance, then most sampling steps.

    It is the paper's own choice: Figure 8 is FID-50K without guidance at 250 steps, and the
    guided scores and Figure 10's fewer images and steps stand beside it.
    """
    order = rows[["n", "guidance", "sampling_steps"]].fillna(0) * [1, -1, 1]
    ranks = order.apply(tuple, axis=1)
    return list(rows.loc[ranks == ranks.max(), "protocol"].unique())


def last_step(rows: pd.DataFrame, unit: str = "model") -> float:
    """Returns the latest step that half of the units have reached, so that none waits for one."""
    reached = rows.groupby("step")[unit].nunique()
    return float(reached[reached >= min(reached.max(), rows[unit].nunique() / 2)].index.max())


@remembered
def final(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """Returns one row per model at the last step, the mean over seeds, ordered by Gflops.

    Raises:
        TableError: no such score, or rows that cannot share an axis or a mean.
    """
    rows = grid(table, metric, protocol)
    return means(rows[rows["last"]])


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per model and step of a grid: the mean over seeds, and how many they are.

    Raises:
        TableError: rows of one model differ in more than the seed.
    """
    mixed = mixing(rows)
    if mixed:
        raise TableError(f"one mean cannot hold different {' and '.join(mixed)}: keep one of each")
    scale = dict.fromkeys(["size", "patch", "tokens", "params", "gflops", "compute"], "first")
    by = ["study", "family", "model", "step"]
    found = rows.groupby(by, as_index=False, sort=False).agg(
        **{name: (name, how) for name, how in scale.items()},
        value=("value", "mean"),
        seeds=("value", "size"),
    )
    return found[["study", "family", "model", *scale, "step", "value", "seeds"]]


def mixing(rows: pd.DataFrame, by: Iterable[str] = AVERAGED) -> list[str]:
    """Lists the fields, with their values, in which rows differ that an average over seeds joins.

    `by` are the columns of the average; whatever is averaged asks first. Empty where the rows of
    every group differ by seed alone. Gflops and parameters may differ by rounding, 0.1 %.
    """
    rows, keys = with_family(rows), list(by)
    rows = rows[rows.duplicated(keys, keep=False)]
    rows = rows.assign(guidance_channels=rows["guidance_channels"].where(rows["guidance"] > 1))
    groups, differ = rows.groupby(keys, dropna=False, sort=False), dict[str, pd.Series]()
    for field in dict.fromkeys([*SETTLED, *ONE_AXIS, "guidance_channels"]):
        if field not in keys and rows[field].nunique(dropna=False) > 1:
            differ[field] = groups[field].transform("nunique", dropna=False) > 1
    for field in ("gflops", "params"):
        differ[field] = groups[field].transform("max") > 1.001 * groups[field].transform("min")
    texts = {field: listed(rows.loc[several, field]) for field, several in differ.items()}
    return [f"{field} ({text})" for field, text in texts.items() if differ[field].any()]


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
    if features == "" and metric in LOSSES:  # of the network alone: nothing was extracted
        return name
    if features == "inception":
        return f"{name}-{n / 1000:g}K" if name.endswith("FID") else name
    if (metric, features) in EXTRACTED:
        return f"{name} (N = {n:,.0f})"
    return f"{metric_name(metric, '')} ({features or 'unknown extractor'}, N = {n:,.0f})"
