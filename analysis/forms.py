"""The forms that a law could have had, and how far those that do as well disagree."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import stats

from analysis.correlation import Array
from analysis.fits import logs_of
from analysis.table import TableError

Form = tuple[tuple[str, ...], ...]  # terms, each a product of logs
VARIABLES = ("gflops", "params", "tokens")
MOST_TERMS = 4  # a constant and four terms leave six of eleven models to judge them by


def forms() -> list[Form]:
    """Lists the polynomials of second order in the logs of one or two variables, 27 of them.

    They are hierarchical: a square or a product never stands without its main effects, without
    which its meaning would change with the units.
    """
    found = dict[Form, None]()
    for pair in itertools.combinations(VARIABLES, 2):
        for mains in ((pair[0],), (pair[1],), pair):
            seconds = list(itertools.combinations_with_replacement(mains, 2))
            for count in range(MOST_TERMS - len(mains) + 1):
                for chosen in itertools.combinations(seconds, count):
                    found[(*((main,) for main in mains), *chosen)] = None
    return list(found)


def columns_of(logs: dict[str, Array], form: Form) -> Array:
    """Returns the regressors [N, 1 + terms] of a form."""
    terms = [np.prod([logs[name] for name in term], axis=0) for term in form]
    return np.column_stack([np.ones(len(terms[0])), *terms])


def left_out_errors(columns: Array, y: Array) -> Array:
    """Returns each point's |log10 error| when it is predicted from the others, in closed form."""
    q, _ = np.linalg.qr(columns)
    leverage = (q**2).sum(1)
    return np.asarray(np.abs(y - q @ (q.T @ y)) / np.maximum(1 - leverage, 1e-12))


def predictions(rows: pd.DataFrame, target: pd.DataFrame) -> Iterator[tuple[Form, Array, float]]:
    """Yields every form that the rows determine, its left-out errors and its prediction."""
    y = np.log10(rows["value"].to_numpy())
    logs, there = (
        {name: log.to_numpy() for name, log in logs_of(models).items()} for models in (rows, target)
    )
    for form in forms():
        columns = columns_of(logs, form)
        if len(rows) > columns.shape[1] and np.linalg.matrix_rank(columns) == columns.shape[1]:
            beta = np.linalg.lstsq(columns, y, rcond=None)[0]
            at = float((columns_of(there, form) @ beta)[0])
            yield form, left_out_errors(columns, y), 10**at


def range_of_forms(rows: pd.DataFrame, target: pd.DataFrame) -> dict[str, float]:
    """Returns the range of the predictions of all forms that do as well as the best.

    As well is a leave-one-out error on the rows, the target not among them, that is not larger than
    the least at 5 %, by a paired t test of the |log errors|.
    """
    found = list(predictions(rows, target))
    if not found:
        return {"forms": 0, "forms_low": float("nan"), "forms_high": float("nan")}
    best = min((errors for _, errors, _ in found), key=np.mean)
    good = [at for _, errors, at in found if does_as_well(errors, best)]
    return {"forms": len(good), "forms_low": min(good), "forms_high": max(good)}


def curve(rows: pd.DataFrame, target: pd.DataFrame) -> pd.DataFrame:
    """Returns the specification curve: a row per form, ordered by what it predicts of the target.

    Columns: prediction, error (typical leave-one-out error on the rows), good (as well as the
    best, see `range_of_forms`), and one of each term, whether the form has it.
    """
    found = list(predictions(rows, target))
    if not found:
        raise TableError("too few models for any form: train more sizes")
    best = min((errors for _, errors, _ in found), key=np.mean)
    lines = [
        {
            "prediction": at,
            "error": np.expm1(np.log(10) * errors.mean()),
            "good": does_as_well(errors, best),
        }
        | {term_name(term): term in form for term in terms_of(found)}
        for form, errors, at in found
    ]
    return pd.DataFrame(lines).sort_values("prediction", ignore_index=True)


def terms_of(found: list[tuple[Form, Array, float]]) -> list[tuple[str, ...]]:
    return list(dict.fromkeys(term for form, _, _ in found for term in form))


def term_name(term: tuple[str, ...]) -> str:
    return f"{term[0]}²" if len(term) == 2 and term[0] == term[1] else "·".join(term)


def does_as_well(errors: Array, best: Array) -> bool:
    """Whether left-out |log errors| are not larger than the best's at 5 % (paired t)."""
    excess = errors - best
    most = stats.t.ppf(0.975, len(best) - 1) / np.sqrt(len(best))
    return bool(excess.mean() <= most * excess.std(ddof=1))


def main_effects(forms: pd.DataFrame) -> pd.DataFrame:
    """Returns of each term the ratio of mean predictions of forms with it to those without it.

    Columns: term, ratio, error_ratio (of the leave-one-out errors), forms (with it). The means are
    of logs; forms that have the others of its terms alike are not paired.
    """
    terms = [name for name in forms if name not in ("prediction", "error", "good")]
    lines = []
    for name in terms:
        has = forms[name].astype(bool)
        if has.any() and not has.all():
            logs = {key: np.log(forms[key]) for key in ("prediction", "error")}
            ratios = [float(np.exp(log[has].mean() - log[~has].mean())) for log in logs.values()]
            lines.append(
                {
                    "term": name,
                    "ratio": ratios[0],
                    "error_ratio": ratios[1],
                    "forms": int(has.sum()),
                }
            )
    return pd.DataFrame(lines)
