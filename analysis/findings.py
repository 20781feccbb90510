"""The first sentences of a report: how the score follows compute, and which model is the best."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd

from analysis.correlation import correlation, correlation_text
from analysis.families_rows import summary
from analysis.grid import axis_label, ends, grid, has_own_steps, main_metric
from analysis.joint_rows import BEST_SIZE
from analysis.learning_rate_rows import rate_law
from analysis.parts import Part
from analysis.rows import attempt
from analysis.table import HIGHER_IS_BETTER, TableError


def findings(shown: Sequence[Part], whole: pd.DataFrame, numbers: pd.DataFrame) -> list[str]:
    """Returns what was found in each part, then in the whole table and in its statistics.

    The statistics give the reason for what is absent.
    """
    texts = []
    for part in shown:
        metric = main_metric(part.table)
        made = [attempt("", partial(state, part.table, metric), []) for state in STATEMENTS]
        said = " ".join(filter(None, [*made, *best_sizes(numbers[numbers["part"].eq(part.name)])]))
        texts.append(f"{part.name.capitalize()}: {said}" if part.name and said else said)
    law = attempt("", partial(rate_law, whole), [])
    return [*texts, *([law] if law else [])]


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

    Of runs that end at steps of their own it is each model's last, and the compute that took.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    rows = grid(table, metric)
    own = has_own_steps(rows)
    groups = rows[ends(rows)].groupby("model")
    models = groups["value"].agg(["mean", "std", "size"])
    if len(models) < 2:
        raise TableError("one model at the last step: add another to the sweep's models")
    order = models.sort_values("mean", ascending=metric not in HIGHER_IS_BETTER)
    first, step = order.iloc[0], groups["step"].max()[order.index[0]]
    seeds = f" ± {first['std']:.3g} ({first['size']:.0f} seeds)" if first["size"] > 1 else ""
    if not own:
        where = f"at step {step:,.0f}: {order.index[0]}"
        return f"Best of {len(order)} {where}, {first['mean']:.4g}{seeds}."
    spent = 2e9 * groups["compute"].max()[order.index[0]]
    return (
        f"Best {axis_label(rows)} of {len(order)} models, each at the end of its longest run:"
        f" {order.index[0]} at step {step:,.0f} ({spent:.2g} operations),"
        f" {first['mean']:.4g}{seeds}."
    )


def best_sizes(numbers: pd.DataFrame) -> list[str]:
    """States how the best size grows with the budget, by the joint law of each score.

    A law that its residuals refute is named so.
    """
    found = []
    for _, row in numbers[numbers["statistic"].str.endswith(BEST_SIZE)].iterrows():
        score = row["statistic"].removesuffix(BEST_SIZE)
        residual = numbers["statistic"].eq(f"{score}: residual")
        notes = numbers.loc[residual & numbers["family"].eq(row["family"]), "note"].astype(str)
        refuted = [str(note).split(" (")[0] for note in notes if str(note).startswith("refuted")]
        doubt = "".join(f"; {reason}" for reason in refuted)
        found.append(
            f"The best size of {row['family']} grows as compute^{row['estimate']}"
            f" {row['interval']} by {score} (joint law{doubt})."
        )
    return found


STATEMENTS = (summary, follows_compute, best)
