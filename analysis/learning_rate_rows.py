"""The best learning rates as rows of the statistics, and the law of them as a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from analysis.correlation import MINUS
from analysis.learning_rate_law import BATCH, SIZES, RateLaw, edge_text, fit
from analysis.learning_rates import optima
from analysis.published_laws import of_size
from analysis.rows import Row, attempt, row_of
from analysis.table import LOSSES, METRICS, TableError

PARABOLA = "Fieller, parabolas of log score"
LAW = "t, scatter of the optima or their errors"
# The next model of a ladder.
NEXT = 2


def rate_metrics(table: pd.DataFrame) -> list[str]:
    """Returns the scores whose best rates are fitted: a held-out loss is the least noisy."""
    return [name for name in (*LOSSES, "fid") if table["metric"].eq(name).any()]


def rate_rows(table: pd.DataFrame, protocol: str | None = None) -> list[Row]:
    """States each model's best rate, and its law in size and batch, of each loss and of FID.

    Raises:
        TableError: no model has three learning rates.
    """
    rows, reasons = list[Row](), list[str]()
    for metric in rate_metrics(table):
        chosen = protocol if metric == "fid" else None
        found = attempt(metric, partial(optima, table, metric, chosen), reasons)
        for setting, own in by_setting(found):
            batches = own[BATCH].nunique()
            rows += [optimum_row(one, metric, setting, batches) for _, one in own.iterrows()]
            rows += law_rows(own, metric, setting)
    if not rows:
        raise TableError(reasons[0].partition(": ")[2].rstrip(".") if reasons else "no scores")
    return rows


def by_setting(found: pd.DataFrame | None) -> Iterator[tuple[str, pd.DataFrame]]:
    for setting, own in () if found is None else found.groupby("setting", sort=False):
        yield str(setting), own


def named(metric: str, setting: str) -> str:
    name = (METRICS | LOSSES)[metric]
    return f"{name}, {setting}" if setting else name


def optimum_row(one: pd.Series, metric: str, setting: str, batches: int) -> Row:
    """States one best rate with its interval, or at which edge of its grid it is."""
    batch = f", batch {one[BATCH]:g}" if batches > 1 else ""
    name = f"{named(metric, setting)}: best learning rate of {one['model']}{batch}"
    if one["edge"]:
        note = f"{one['edge']}, no optimum: sweep beyond it"
        return row_of(name, one["best"], None, ".3g", "", int(one["runs"]), note)
    note = f"best of {one['rates']:g} tried: {one['best']:.3g}"
    note += "" if one["low"] > 0 else "; no interval: it is wider than the rates tried"
    bounds = (one["low"], one["high"])
    return row_of(name, one["lr"], bounds, ".3g", PARABOLA, int(one["runs"]), note)


def law_rows(own: pd.DataFrame, metric: str, setting: str) -> list[Row]:
    """States the exponents in every count of size, in the batch, and the rate of a larger model."""
    rows, reasons = list[Row](), list[str]()
    laws = {size: attempt("", partial(fit, own, size), reasons) for size in SIZES}
    known = {size: law for size, law in laws.items() if law}
    name = named(metric, setting)
    if not known:
        absent = row_of(f"{name}: law of the best learning rate", np.nan, None, "g", "", len(own))
        return [{**absent, "estimate": "not known", "note": reasons[0].removeprefix(": ")}]
    for size, law in known.items():
        if size in law.axes:
            rows.append(exponent_row(law, size, f"{name}: exponent of {SIZES[size]}", own))
    law = next(iter(known.values()))
    if BATCH in law.axes:
        rows.append(exponent_row(law, BATCH, f"{name}: exponent of the batch", own))
    return rows + (larger_row(law, name) if law.axes[0] in SIZES else [])


def exponent_row(law: RateLaw, axis: str, name: str, own: pd.DataFrame) -> Row:
    value, low, high = law.exponent(axis)
    edges = own[own["edge"].ne("")]
    quantity = {"params": "optimal learning rate"}.get(axis, "")
    known = [f"{r['c']:g} ({r['law']}, {r['setting']})" for _, r in of_size(quantity).iterrows()]
    parts = [f"lr* = {formula(law)}", *([f"published: {', '.join(known)}"] if known else [])]
    note = "; ".join([*parts, *([edge_text(edges)] if len(edges) else [])])
    statistic = f"{name} in the best learning rate"
    return row_of(statistic, value, (low, high), ".2f", LAW, len(law.rows), note)


def formula(law: RateLaw) -> str:
    """Returns the law with its numbers: '0.0123 params^-0.31'."""
    exponents = [law.exponent(axis)[0] for axis in law.axes]
    constant = np.exp(law.fit.params[0] - np.dot(exponents, law.centre))
    powers = [f"{axis}^{value:.3g}" for axis, value in zip(law.axes, exponents, strict=True)]
    return " ".join([f"{constant:.3g}", *powers])


def larger_row(law: RateLaw, name: str) -> list[Row]:
    """States what the law says of a model of twice the largest size, at the largest batch."""
    size = law.axes[0]
    at = [NEXT * law.rows[size].max(), *([law.rows[BATCH].max()] if BATCH in law.axes else [])]
    value, low, high = law.at(*at)
    statistic = f"{name}: learning rate at {at[0]:.3g} {SIZES[size]}"
    note = f"{NEXT} times the largest model"
    return [row_of(statistic, value, (low, high), ".3g", LAW, len(law.rows), note)]


def rate_law(table: pd.DataFrame) -> str:
    """States in one sentence how the best learning rate follows size, setting by setting.

    Raises:
        TableError: no model has three learning rates, or no setting has a law.
    """
    reasons = list[str]()
    for metric in rate_metrics(table):
        found = attempt(metric, partial(optima, table, metric), reasons)
        laws = [
            (name, attempt(metric, partial(fit, own), reasons)) for name, own in by_setting(found)
        ]
        texts = [": ".join(filter(None, [name, law_text(law)])) for name, law in laws if law]
        if texts:
            score = (METRICS | LOSSES)[metric]
            return f"Best learning rate by {score}: {'; '.join(texts)}."
    raise TableError(reasons[0].partition(": ")[2].rstrip(".") if reasons else "no scores")


def law_text(law: RateLaw) -> str:
    """Returns 'falls as params^-0.31 [-0.57, -0.05] (4 models)'."""
    parts = []
    for axis in law.axes:
        value, low, high = law.exponent(axis)
        verb = "is not shown to change, " if low <= 0 <= high else "falls as " * (value < 0)
        name = "batch" if axis == BATCH else SIZES[axis]
        power = f"{name}^{value:.2f} [{low:.2f}, {high:.2f}]".replace("-", MINUS)
        parts.append(f"{verb or 'grows as '}{power}")
    return f"{' and '.join(parts)} ({len(law.rows)} optima)"
