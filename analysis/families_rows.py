"""What the comparison of families says: rows of the statistics, and sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.correlation import MINUS
from analysis.families import (
    AXES,
    family_exponents,
    fit_lines,
    models_of,
    offsets,
    parallel_test,
    seen_from,
)
from analysis.rows import Row, attempt, row_of
from analysis.table import HIGHER_IS_BETTER, METRICS, TableError

METHOD = "Fieller, parallel lines"


def ahead(models: pd.DataFrame, axis: str, metric: str = "fid") -> str:
    """States which family is ahead at equal compute of a kind, by how much, how certain that is.

    Raises:
        TableError: too few families or models.
    """
    order = by_score(models, axis, metric)
    pair = seen_from(offsets(models, axis), order[0]).set_index("family").loc[order[1]]
    name = METRICS.get(metric, metric)
    verb = "ahead" if pair["p"] < 0.05 else "ahead, not with certainty,"
    return (
        f"{order[0]} is {verb} at equal {axis}: {order[1]}, the next, needs"
        f" {multiple_text(pair)} as much for the same {name} ({certainty(pair)})"
    )


def by_score(models: pd.DataFrame, axis: str, metric: str) -> list[str]:
    """Returns the families by their score at equal compute of a kind, the best first."""
    lines = fit_lines(models, axis, parallel=True)
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    order = np.argsort(sign * lines.fit.params[: len(lines.families)])
    return [lines.families[place] for place in order]


def multiple_text(pair: pd.Series) -> str:
    """Returns '6.7 × [2.5, 62]'."""
    known = np.isfinite(pair["low"])
    bounds = f" [{pair['low']:.2g}, {pair['high']:.3g}]" if known else " [not identified]"
    return f"{pair['multiple']:.2g} ×{bounds}"


def certainty(pair: pd.Series) -> str:
    """Returns 'p = 0.002', and where the shift rests on the lines alone that it does."""
    p = f"p = {pair['p']:.1g}"
    return p if pair["common"] else f"{p}; extrapolated, no score is in both ranges"


def scales(models: pd.DataFrame, axis: str = "Gflops") -> str:
    """States whether the exponents of families differ, and which is the steepest.

    Raises:
        TableError: too few families or models.
    """
    test, found = parallel_test(models, axis), family_exponents(models, axis)
    found = found.sort_values("value", key=abs, ascending=False)
    steep, flat = found.iloc[0], found.iloc[-1]
    texts = [
        f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] of {row['family']}"
        for row in (steep, flat)
    ]
    verdict = (
        f"differ: {steep['family']} scales best"
        if test["p"] < 0.05
        else "do not differ with certainty: no family is shown to scale better"
    )
    statement = f"exponents of {axis}, {texts[0]} to {texts[1]}, {verdict}"
    return f"{statement} ({test_text(test)})".replace(" -", f" {MINUS}").replace("[-", f"[{MINUS}")


def test_text(test: dict[str, float]) -> str:
    return f"F({test['df']:g}, {test['df_residual']:g}) = {test['F']:.2g}, p = {test['p']:.1g}"


def summary(table: pd.DataFrame, metric: str = "fid") -> str:
    """States in one sentence which family is ahead at equal what, and which scales better.

    Raises:
        TableError: fewer than two families, or too few models.
    """
    models = models_of(table, metric)
    texts = [attempt("", lambda axis=axis: ahead(models, axis, metric), []) for axis in kinds(models)]
    known = "; ".join(filter(None, [*texts, attempt("", lambda: scales(models), [])]))
    if not known:
        raise TableError("families have too few models to be compared: train other sizes")
    return f"{known[0].upper()}{known[1:]}."


def kinds(models: pd.DataFrame) -> list[str]:
    """Returns the axes that differ: under one protocol sampling compute goes with Gflops."""
    share = models["sampling"] / models["gflops"]
    same = share.isna().any() or np.isclose(share.max(), share.min())
    return [axis for axis in AXES if not (same and axis == "sampling compute")]


def family_rows(table: pd.DataFrame) -> list[Row]:
    """States each family's exponent, whether these differ, and what each needs of the best one's.

    Raises:
        TableError: fewer than two families, or too few models.
    """
    models = models_of(table)
    rows = exponent_rows(models)
    for axis in kinds(models):
        rows += attempt(axis, lambda axis=axis: offset_rows(models, axis), []) or []
    return rows


def exponent_rows(models: pd.DataFrame) -> list[Row]:
    note, n = test_text(parallel_test(models, "Gflops")), len(models)
    method = "t, noise of all families"
    return [
        row_of(
            f"exponent of Gflops, {row['family']}",
            row["value"],
            (row["low"], row["high"]),
            ".2f",
            method,
            n,
            f"equal exponents: {note}",
        )
        for _, row in family_exponents(models, "Gflops").iterrows()
    ]


def offset_rows(models: pd.DataFrame, axis: str) -> list[Row]:
    best = by_score(models, axis, "fid")[0]
    note = "equal Gflops is equal sampling compute here" if axis == "Gflops" else ""
    note = note if "sampling compute" not in kinds(models) else ""
    return [
        row_of(
            f"{row['family']}, {axis} for the score of {best}",
            row["multiple"],
            (row["low"], row["high"]),
            ".3g",
            METHOD,
            len(models),
            ", ".join(filter(None, [certainty(row), note])),
        )
        for _, row in seen_from(offsets(models, axis), best).iterrows()
    ]
