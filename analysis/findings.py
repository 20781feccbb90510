"""The first sentences of a report: how the score follows compute, and which model is the best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.correlation import correlation, correlation_text
from analysis.families_rows import summary
from analysis.grid import axis_label, grid
from analysis.parts import Part
from analysis.rows import attempt
from analysis.table import HIGHER_IS_BETTER, TableError


def findings(shown: Sequence[Part], metric: str = "fid") -> list[str]:
    """Returns what was found in each part; the statistics give the reason for what is absent."""
    texts = []
    for part in shown:
        made = [attempt("", partial(state, part.table, metric), []) for state in STATEMENTS]
        said = " ".join(filter(None, made))
        texts.append(f"{part.name.capitalize()}: {said}" if part.name and said else said)
    return texts


def follows_compute(table: pd.DataFrame, metric: str) -> str:
    """States the correlation of a score with log Gflops.

    Raises:
        TableError: fewer than 3 models, or rows that cannot share an axis.
    """
    rows = correlation(table, metric, statistics=["pearson"])
    if rows["family"].nunique() > 1:
        raise TableError("several families: each has its own correlation, in the statistics")
    name = axis_label(grid(table, metric))
    value = float(rows["value"].iloc[0])
    verb = "falls with" if value < 0 else "rises with"
    verb = verb if abs(value) > 0.5 else "does not follow"
    return f"{name} {verb} compute: {correlation_text(rows)}, over log Gflops."


def best(table: pd.DataFrame, metric: str) -> str:
    """States the best model at the last step, with the spread of its seeds.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    rows = grid(table, metric)
    models = rows[rows["last"]].groupby("model")["value"].agg(["mean", "std", "size"])
    if len(models) < 2:
        raise TableError("one model at the last step: train another to compare")
    order = models.sort_values("mean", ascending=metric not in HIGHER_IS_BETTER)
    first, step = order.iloc[0], rows.loc[rows["last"], "step"].max()
    seeds = f" ± {first['std']:.3g} ({first['size']:.0f} seeds)" if first["size"] > 1 else ""
    return (
        f"Best of {len(order)} at step {step:,.0f}: {order.index[0]}, {first['mean']:.4g}{seeds}."
    )


STATEMENTS = (summary, follows_compute, best)
