"""What the comparison of families says: rows of the statistics, and sentences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from analysis.correlation import MINUS
from analysis.families import (
    AXES,
    elsewhere,
    family_exponents,
    fit_lines,
    models_of,
    offsets,
    parallel_test,
    seen_from,
    steepest,
)
from analysis.rows import Row, attempt, row_of
from analysis.table import HIGHER_IS_BETTER, TableError

METHOD = "Fieller, parallel lines"


def leading(models: pd.DataFrame, axis: str, metric: str = "fid") -> pd.Series:
    """Returns what the second best family needs for the score of the best, its `other`.

    Raises:
        TableError: too few families or models.
    """
    first, second = by_score(models, axis, metric)[:2]
    pairs = seen_from(offsets(models, axis), first)
    return pairs[pairs["family"] == second].iloc[0]


def ahead(pair: pd.Series, kind: str) -> str:
    """States in a few words which family is ahead at equal compute of a kind, and by how much."""
    verb = "is ahead" if pair["p"] < 0.05 else "may be ahead"
    needs = f"{pair['family']} needs {multiple_text(pair)} for its score"
    return f"At equal {kind} {pair['other']} {verb}: {needs}"


def by_score(models: pd.DataFrame, axis: str, metric: str) -> list[str]:
    """Returns the families by their score at equal compute of a kind, the best first."""
    lines = fit_lines(models, axis, parallel=True)
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    order = np.argsort(sign * lines.fit.params[: len(lines.families)])
    return [lines.families[place] for place in order]


def multiple_text(pair: pd.Series) -> str:
    """Returns '6.7 × [2.5, 62]'."""
    if np.isnan(pair["multiple"]):
        return "a multiple that is not identified"
    multiple, low, high = (two_digits(pair[name]) for name in ("multiple", "low", "high"))
    return f"{multiple} × [{low}, {high}]"


def two_digits(value: float) -> str:
    """Returns '0.67', '6.7', '62' and '126': two digits at least, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def certainty(pair: pd.Series) -> str:
    """Returns 'p = 0.002', and where the shift rests on the lines alone that it does."""
    p = f"p = {pair['p']:.1g}"
    return p if pair["common"] else f"{p}, extrapolated: no score is in both ranges"


def scales(models: pd.DataFrame, metric: str, axis: str = "Gflops") -> str:
    """States whether the exponents of families differ, and which scales best if one does.

    Raises:
        TableError: too few families or models.
    """
    test, found = parallel_test(models, axis), steepest(models, axis, metric)
    texts = [
        f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}] of {row['family']}"
        for row in (found.iloc[0], found.iloc[-1])
    ]
    verdict = "do not differ with certainty: no family is shown to scale better"
    if test["p"] < 0.05:
        verdict = f"differ: {best(found)}, and the multiples are averages over the range"
    statement = f"exponents of {axis}, {texts[0]} to {texts[1]}, {verdict}"
    return f"{statement} ({test_text(test)})".replace(" -", f" {MINUS}").replace("[-", f"[{MINUS}")


def best(found: pd.DataFrame) -> str:
    """States than which families the first one scales better, with certainty."""
    name, *others = found["family"]
    worse = found.loc[found["p"] < 0.05, "family"]
    if len(worse) == len(others):
        return f"{name} scales best"
    if worse.empty:
        return "which scales best is open"
    return f"{name} scales better than {' and '.join(worse)}"


def test_text(test: dict[str, float]) -> str:
    return f"F({test['df']:g}, {test['df_residual']:g}) = {test['F']:.2g}, p = {test['p']:.1g}"


def summary(table: pd.DataFrame, metric: str = "fid") -> str:
    """States in one sentence which family is ahead at equal what, and which scales better.

    Raises:
        TableError: fewer than two families, or too few models.
    """
    models, reasons = models_of(table, metric), list[str]()
    made = {
        kind: attempt(axis, partial(leading, models, axis, metric), reasons)
        for axis, kind in kinds(models).items()
    }
    pairs = {kind: pair for kind, pair in made.items() if pair is not None}
    if not pairs:
        raise TableError(reasons[0].rstrip("."))
    kind, first = next(iter(pairs.items()))
    texts = [f"{ahead(first, kind)} ({certainty(first)})"]
    for kind, pair in [*pairs.items()][1:]:
        same = [pair["family"], pair["other"]] == [first["family"], first["other"]]
        text = multiple_text(pair) if same else ahead(pair, kind).partition(f"{kind} ")[2]
        texts.append(f"at equal {kind} {text} (p = {pair['p']:.1g})")
    compared = attempt("exponents not compared", partial(scales, models, metric), reasons)
    others = elsewhere(table, metric)
    left = [f"guided or on no axis, and left out: {', '.join(others)}"] if others else []
    return f"{'; '.join([*texts, *seen(models), compared or reasons[-1].rstrip('.'), *left])}."


def seen(models: pd.DataFrame) -> list[str]:
    """States what families were trained on, where they did not see equally many images."""
    means = models.groupby("family")["seen"].mean()
    if means.isna().any() or np.isclose(means.max(), means.min()):
        return []
    parts = [f"{family} {images:,.0f}" for family, images in means.items()]
    return [f"images in training: {', '.join(parts)}"]


def kinds(models: pd.DataFrame) -> dict[str, str]:
    """Returns what is equal on each axis: under one protocol sampling compute goes with Gflops."""
    share = models["sampling"] / models["gflops"]
    names = {axis: axis for axis in AXES} | {"training compute": "training compute, all passes"}
    unknown, same = share.isna().any(), bool(np.isclose(share.max(), share.min()))
    if unknown or same:
        del names["sampling compute"]
    if same and not unknown:
        names["Gflops"] = "Gflops and sampling compute"
    return names


def family_rows(table: pd.DataFrame) -> list[Row]:
    """States each family's exponent, whether these differ, and what each needs of the best one's.

    Raises:
        TableError: fewer than two families, or too few models.
    """
    models, reasons = models_of(table), list[str]()
    rows = attempt("exponents", partial(exponent_rows, models), reasons) or []
    for axis in kinds(models):
        rows += attempt(axis, partial(offset_rows, models, axis), reasons) or []
    if not rows:
        raise TableError(reasons[0].rstrip("."))
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
    best, kind = by_score(models, axis, "fid")[0], kinds(models)[axis]
    return [
        row_of(
            f"{row['family']}, {kind} for the score of {best}",
            row["multiple"],
            (row["low"], row["high"]),
            ".3g",
            METHOD,
            len(models),
            certainty(row),
        )
        for _, row in seen_from(offsets(models, axis), best).dropna().iterrows()
    ]
