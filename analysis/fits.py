"""Laws of a score in log space, by least squares: exponents, and whether the points refute them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS, RegressionResults

from analysis.correlation import Array
from analysis.grid import final
from analysis.table import TableError, listed

GFLOPS, PRODUCT = "Gflops", "N, tokens and their product"
# The product lets the gain from parameters N grow with the tokens, as the slopes by patch do: on
# the published twelve the mean leave-one-out error is 6.5 % with it, 19.8 % without, 20.5 % from
# Gflops alone.
LAWS = {GFLOPS: ["gflops"], PRODUCT: ["params", "tokens", "params·tokens"]}
NEEDS = {GFLOPS: ["gflops"], PRODUCT: ["params", "tokens"]}


def exponents(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Fits the exponents of both laws per family by least squares in log space: 95 % t intervals.

    Beside each stands `misspecification` of its law: columns alternative, F, df, df_residual, p.

    Raises:
        TableError: too few models in every family, several studies, or values without a logarithm.
    """
    return per_family(table, metric, protocol, exponents_of)


def exponents_of(rows: pd.DataFrame) -> pd.DataFrame:
    found = []
    for law, terms in LAWS.items():
        if law == PRODUCT and not is_fitted(rows, law):
            continue  # `left_out(table, needs=["params", "tokens"])` names the models
        fit, test = fit_law(rows, law), misspecification(rows, law)
        for term, value, (low, high) in zip(terms, fit.params[1:], fit.conf_int()[1:], strict=True):
            exponent = {"law": law, "exponent of": term, "value": value, "low": low, "high": high}
            found.append({**exponent, "n": int(fit.nobs), **test})
    return pd.DataFrame(found)


def slopes_by_patch(
    table: pd.DataFrame, metric: str = "fid", protocol: str | None = None
) -> pd.DataFrame:
    """Fits the exponent of a metric in Gflops per family and patch size, with its t interval.

    Raises:
        TableError: no such score, rows that cannot share an axis, or values without a logarithm.
    """
    slopes = []
    rows = positive(final(table, metric, protocol))
    for (study, family, patch), part in rows.groupby(["study", "family", "patch"], sort=False):
        if len(part) > 2 and part["gflops"].nunique() > 1:
            fit = stats.linregress(np.log10(part["gflops"]), np.log10(part["value"]))
            half = stats.t.ppf(0.975, len(part) - 2) * fit.stderr
            bounds = (fit.slope, fit.slope - half, fit.slope + half)
            slopes.append((study, family, patch, *bounds, len(part)))
    columns = ["study", "family", "patch", "slope", "low", "high", "n"]
    return pd.DataFrame(slopes, columns=columns).sort_values(["study", "family", "patch"])


def misspecification(rows: pd.DataFrame, law: str) -> dict[str, Any]:
    """Tests a law against a line per patch, or of models without patches against a bend: F test.

    NaN where no points are left to estimate the error of the alternative.
    """
    rows = complete(rows, law)
    x = np.log10(rows["params" if law == PRODUCT else "gflops"].to_numpy())
    groups = rows["tokens"].round(6)
    by_patch = groups.notna().all() and groups.nunique() > 1
    if by_patch:
        member = (groups.to_numpy()[:, None] == groups.unique()).astype(float)
        wide = np.hstack([member, member * x[:, None]])
    else:
        wide = np.column_stack([design(rows, law), x**2])
    y = np.log10(rows["value"].to_numpy())
    (loss, rank), (wide_loss, wide_rank) = (squares(d, y) for d in (design(rows, law), wide))
    df, spare = wide_rank - rank, len(rows) - wide_rank
    test = {"alternative": "a line per patch" if by_patch else "a bend", "df": df}
    if df < 1 or spare < 1 or not wide_loss > 0:
        return {**test, "df_residual": spare, "F": float("nan"), "p": float("nan")}
    f = (loss - wide_loss) / df / (wide_loss / spare)
    return {**test, "df_residual": spare, "F": float(f), "p": float(stats.f.sf(f, df, spare))}


def squares(columns: Array, y: Array) -> tuple[float, int]:
    """Returns the sum of squared residuals of a least-squares fit, and the rank of its columns."""
    beta, _, rank, _ = np.linalg.lstsq(columns, y, rcond=1e-9)
    return float(((y - columns @ beta) ** 2).sum()), int(rank)


def fit_law(rows: pd.DataFrame, law: str) -> RegressionResults:
    """Fits a law to models of one family; those without what it needs are left out.

    Raises:
        TableError: too few models, or values without a logarithm.
    """
    if not is_fitted(rows, law):
        needs = " and ".join(NEEDS[law])
        raise TableError(
            f"the law in {law} needs {len(LAWS[law]) + 2} other models with {needs}, there are"
            f" {len(complete(rows, law))}: add sizes to the sweep's models"
        )
    rows = complete(rows, law)
    return OLS(np.log10(positive(rows)["value"].to_numpy()), design(rows, law)).fit()


def is_fitted(rows: pd.DataFrame, law: str) -> bool:
    """Whether there is one model more than coefficients, or no error is left to estimate."""
    return len(complete(rows, law)) >= len(LAWS[law]) + 2


def complete(rows: pd.DataFrame, law: str) -> pd.DataFrame:
    """Returns the rows with what a law needs; `left_out(..., needs=NEEDS[law])` has the others."""
    return rows[rows[NEEDS[law]].gt(0).all(axis=1)]


def design(rows: pd.DataFrame, law: str) -> Array:
    """Returns the law's regressors [N, 1 + terms]: logs about 100M parameters and 64 tokens."""
    logs = logs_of(rows)
    logs["params·tokens"] = logs["params"] * logs["tokens"]
    return np.column_stack([np.ones(len(rows)), *(logs[name] for name in LAWS[law])])


def logs_of(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns log10 of Gflops, of parameters about 100M, and of tokens about 64 (patch 4)."""
    return {
        "gflops": np.log10(rows["gflops"]),
        "params": np.log10(rows["params"] / 1e8),
        "tokens": np.log10(rows["tokens"] / 64),
    }


def per_family(
    table: pd.DataFrame,
    metric: str,
    protocol: str | None,
    fit: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """Fits every family of one study apart: one law across families would mix their offsets.

    Families that cannot be fitted are in `.attrs["problems"]` with the reason.

    Raises:
        TableError: no family can be fitted, several studies, or values without a logarithm.
    """
    rows = positive(one_study(final(table, metric, protocol)))
    found, reasons = [], dict[str, list[str]]()
    for family, part in rows.groupby("family", sort=False):
        try:
            found.append(fit(part).assign(family=family, metric=metric))
        except TableError as reason:
            reasons.setdefault(str(reason), []).append(str(family))
    problems = [f"{', '.join(families)}: {reason}" for reason, families in reasons.items()]
    if not found:
        raise TableError("; ".join(problems))
    fits = pd.concat(found, ignore_index=True)
    fits.attrs["problems"] = problems
    return fits


def one_study(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows.

    Raises:
        TableError: they are of several studies; a law across them would mix their scores.
    """
    if rows["study"].nunique() > 1:
        raise TableError(
            f"one law for several studies ({listed(rows['study'])}): give the rows of one"
        )
    return rows


def positive(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows.

    Raises:
        TableError: a value is not above 0 and has no logarithm.
    """
    other = rows[~rows["value"].gt(0)]
    if len(other):
        raise TableError(
            f"the score of {listed(other['model'])} is not above 0, so that it has no logarithm:"
            " score it again"
        )
    return rows
