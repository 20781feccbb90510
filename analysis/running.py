"""Running curves: a run's last score from its first checkpoints and the finished runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.correlation import Array
from analysis.fits import one_study, positive
from analysis.grid import grid
from analysis.table import RUN, TableError

FEWEST = 4  # finished runs: a mean of what they still gained, and its spread
WITH_SIZE = 8  # runs from which the gain may also depend on Gflops
COLUMNS = "run model family step last value prediction low high truth".split()


def running(table: pd.DataFrame, metric: str = "fid", protocol: str | None = None) -> pd.DataFrame:
    """Predicts the last score of every run from each of its earlier ones: 95 % interval, truth.

    The log of what the other finished runs of its family still gained from that step on, a mean or
    from 8 runs a line in log Gflops, is added to its own log score. A finished run is predicted
    without itself, so that its rows are the calibration; truth is NaN of one that still runs.

    Raises:
        TableError: one step alone, or too few finished runs in every family.
    """
    rows = positive(one_study(grid(table, metric, protocol)))
    rows = rows.assign(number=rows.groupby(RUN, dropna=False, sort=False).ngroup())
    rows = rows[rows["step"] <= rows.loc[rows["last"], "step"].max()]
    if rows["step"].nunique() < 2:
        raise TableError(
            "running curves need scores at two steps, there is one: score earlier ones"
        )
    found = [line for _, part in rows.groupby("family", sort=False) for line in of_family(part)]
    if not found:
        finished = rows.loc[rows["last"], "number"].nunique()
        raise TableError(
            f"{finished} runs are finished, {FEWEST} of a family tell what others will gain: train"
            " more"
        )
    return pd.DataFrame(found, columns=COLUMNS)


def ongoing(found: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Returns the latest prediction of each run that still runs, and the run that dominates it.

    `dominated_by` is a finished run of another model, of at most its Gflops, whose last score is
    below the interval, the best there is; empty where there is none.
    """
    gflops = table.drop_duplicates("run").set_index("run")["gflops"]
    done = found[found["truth"].notna()].drop_duplicates("run").set_index("run")
    latest = found[found["truth"].isna()].sort_values("step").drop_duplicates("run", keep="last")
    names = list[str]()
    for row in latest.to_dict("records"):
        others = done[done["model"].ne(row["model"])]["truth"]
        cheaper = others[gflops.reindex(others.index) <= gflops[row["run"]]]
        best = cheaper[cheaper < row["low"]]
        names.append("" if best.empty else str(best.idxmin()))
    return latest.assign(dominated_by=names)


def of_family(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    last = rows["step"].max()
    ends = rows[rows["step"].eq(last)].set_index("number")["value"]
    for step in sorted(set(rows["step"]) - {last}):
        at = rows[rows["step"].eq(step)].drop_duplicates("number").set_index("number")
        gains = np.log(ends.reindex(at.index)) - np.log(at["value"])
        for number, row in at.iterrows():
            others = gains.drop(number).dropna()
            if len(others) >= FEWEST:
                x = np.log(at.loc[others.index, "gflops"].to_numpy(float))
                bounds = gain_of(x, others.to_numpy(), float(np.log(row["gflops"])))
                low, middle, high = row["value"] * np.exp(bounds)
                name = row["run"] or f"{row['model']}, seed {row['seed']:g}"
                truth = ends.get(number, np.nan)
                base = (name, row["model"], row["family"], step, last, row["value"])
                yield dict(zip(COLUMNS, (*base, middle, low, high, truth), strict=True))


def gain_of(x: Array, gains: Array, at: float) -> Array:
    """Returns (low, middle, high) of a new run's log gain, by t; a line where enough runs tell."""
    columns = np.ones((len(x), 1))
    target = np.ones(1)
    if len(x) >= WITH_SIZE and np.ptp(x) > 0:
        columns, target = np.column_stack([columns, x]), np.array([1.0, at])
    beta, *_ = np.linalg.lstsq(columns, gains, rcond=None)
    df = len(gains) - columns.shape[1]
    spread = np.sqrt(((gains - columns @ beta) ** 2).sum() / df)
    leverage = target @ np.linalg.pinv(columns.T @ columns) @ target
    half = stats.t.ppf(0.975, df) * spread * np.sqrt(1 + leverage)
    middle = float(target @ beta)
    return np.array([middle - half, middle, middle + half])


def calibration(found: pd.DataFrame) -> pd.DataFrame:
    """Returns, by step, how many intervals of finished runs hold the score, and the typical error.

    Columns: family, step, runs, held, error (exp(mean |log|) − 1), width (median high / low).
    """
    known = found[found["truth"].notna()]
    known = known.assign(
        held=known["truth"].between(known["low"], known["high"]),
        log=np.abs(np.log(known["prediction"] / known["truth"])),
        width=known["high"] / known["low"],
    )
    groups = known.groupby(["family", "step"], sort=False)
    frame = groups.agg(
        runs=("held", "size"), held=("held", "sum"), log=("log", "mean"), width=("width", "median")
    )
    return frame.assign(error=np.expm1(frame["log"])).drop(columns="log").reset_index()
