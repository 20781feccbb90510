"""Families of models on one axis: the law of each, what one needs for the score of another."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.regression.linear_model import OLS, RegressionResults

from analysis.comparison import holm
from analysis.compute import sampling_compute
from analysis.correlation import Array
from analysis.fits import squares
from analysis.grid import grid, means, one_axis
from analysis.rows import attempt
from analysis.table import HIGHER_IS_BETTER, TableError, listed

# What two families can be equal in.
AXES = {
    "Gflops": "gflops",
    "sampling compute": "sampling",
    "training compute": "compute",
    "parameters": "params",
}
# Families of several studies share an axis if these agree; what else differs is said beside it.
QUANTITY = ("metric", "data", "features", "n")


@dataclass(frozen=True)
class Lines:
    """Lines of log10 score in log10 of an axis, one per family; the noise is that of all of them.

    `fit` has the intercepts at `centre` in the order of `families`, then one slope of all where
    the lines are parallel, else a slope per family.
    """

    families: list[str]
    centre: float
    parallel: bool
    fit: RegressionResults

    def design(self, family: str, x: Array) -> Array:
        """Returns the regressors [K, parameters] of a family at K places of the axis."""
        member = np.tile(np.eye(len(self.families))[self.families.index(family)], (len(x), 1))
        return design(member, np.log10(x) - self.centre, self.parallel)


def placed(table: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """Returns the grid of scores; a family of several studies is named after its study too.

    Raises:
        TableError: rows that cannot share an axis, or studies whose scores are not one quantity.
    """
    rows = one_axis(pd.concat(grids(table, metric)), QUANTITY)
    studies = rows.groupby("family")["study"].transform("nunique")
    return rows.assign(
        family=rows["family"].where(studies.eq(1), rows["family"] + ", " + rows["study"])
    )


def grids(table: pd.DataFrame, metric: str = "fid") -> list[pd.DataFrame]:
    """Returns the grid of each study that has one; guided scores are never beside others.

    Raises:
        TableError: no study has scores on one axis.
    """
    reasons = list[str]()
    studies = [part for _, part in table.groupby("study", sort=False)] or [table]
    made = [attempt("", partial(grid, part, metric), reasons) for part in studies]
    found = [rows for rows in made if rows is not None]
    if not found:
        reason = reasons[0] if reasons else "the table has no rows: score a model first"
        raise TableError(reason.removeprefix(": ").removesuffix("."))
    return [rows for rows in found if not rows["guidance"].gt(1).any()] or found


def elsewhere(table: pd.DataFrame, metric: str = "fid") -> list[str]:
    """Returns the studies that are not on the axis of the others."""
    shown = {rows["study"].iloc[0] for rows in grids(table, metric)}
    return [name for name in dict.fromkeys(table["study"]) if name not in shown]


def models_of(table: pd.DataFrame, metric: str = "fid") -> pd.DataFrame:
    """Returns one row per model at the last step, of the patch sizes that all families share.

    Models without a patch size stay; those whose score has no logarithm are left out.

    Raises:
        TableError: fewer than two families, or rows that cannot share an axis.
    """
    rows = placed(table, metric)
    last = rows[rows["last"]].assign(sampling=sampling_compute)
    last = last.assign(seen=last["batch_size"] * last["step"])
    also = last.groupby(["study", "model"])[["sampling", "seen"]].first()
    models = means(last).merge(also, on=["study", "model"])
    models = shared_patches(models[models["value"].gt(0)])
    if models["family"].nunique() < 2:
        others = elsewhere(table, metric)
        left = f" beside {', '.join(others)}, guided or on no axis" if others else ""
        raise TableError(
            f"one family of models ({listed(models['family'])}){left}: train another at equal"
            " Gflops"
        )
    return models


def shared_patches(models: pd.DataFrame) -> pd.DataFrame:
    """Returns the models of the patch sizes that every family has, or all if there is none."""
    sets = [set(part["patch"].dropna()) for _, part in models.groupby("family")]
    known = [patches for patches in sets if patches]
    shared = set.intersection(*known) if known else set()
    return models[models["patch"].isna() | models["patch"].isin(shared)] if shared else models


def fit_lines(models: pd.DataFrame, axis: str, parallel: bool) -> Lines:
    """Fits a line per family by least squares; a family of one model has none of its own.

    Raises:
        TableError: no model is left over to estimate the noise.
    """
    models = usable(models, axis, parallel)
    families = sorted(set(models["family"]))
    count = len(families) + (1 if parallel else len(families))
    if len(families) < 2 or len(models) <= count:
        sizes = "" if parallel else " of 2 sizes each"
        raise TableError(
            f"lines of families over {axis} need 2 families{sizes} and a model more than they have"
            f" parameters, there are {len(models)} models of {len(families)} families: train other"
            " sizes"
        )
    member = (models["family"].to_numpy()[:, None] == np.array(families)).astype(float)
    x, y = (np.log10(models[name].to_numpy(float)) for name in (AXES[axis], "value"))
    columns = design(member, x - x.mean(), parallel)
    return Lines(families, float(x.mean()), parallel, OLS(y, columns).fit())


def design(member: Array, x: Array, parallel: bool) -> Array:
    return np.hstack([member, x[:, None] if parallel else member * x[:, None]])


def usable(models: pd.DataFrame, axis: str, parallel: bool = True) -> pd.DataFrame:
    """Returns the models that have the axis; for a slope of its own a family needs two of them."""
    models = models[models[AXES[axis]].gt(0)]
    counts = models.groupby("family")[AXES[axis]].transform("nunique")
    return models if parallel else models[counts > 1]


def parallel_test(models: pd.DataFrame, axis: str) -> dict[str, float]:
    """Tests a slope per family against one of all (F test): F, df, df_residual, p."""
    own, one = (
        fit_lines(usable(models, axis, False), axis, parallel) for parallel in (False, True)
    )
    y = own.fit.model.endog
    (wide, rank), (loss, less) = (squares(lines.fit.model.exog, y) for lines in (own, one))
    df, spare = rank - less, len(y) - rank
    f = max(loss - wide, 0.0) / df / max(wide / spare, np.finfo(float).tiny)
    return {"F": float(f), "df": df, "df_residual": spare, "p": float(stats.f.sf(f, df, spare))}


def family_exponents(models: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Returns each family's exponent of an axis with its t interval, the noise that of all."""
    lines = fit_lines(models, axis, parallel=False)
    count = len(lines.families)
    low, high = lines.fit.conf_int()[count:].T
    return pd.DataFrame(
        {"family": lines.families, "value": lines.fit.params[count:], "low": low, "high": high}
    )


def steepest(models: pd.DataFrame, axis: str, metric: str) -> pd.DataFrame:
    """Returns the exponents, the best first, with p of each being the best one's (t test, Holm)."""
    lines, found = fit_lines(models, axis, parallel=False), family_exponents(models, axis)
    better = 1 if metric in HIGHER_IS_BETTER else -1
    found = found.sort_values("value", key=lambda value: -better * value)
    count, (best, *others) = len(lines.families), found.index
    p = []
    for other in others:
        contrast = np.zeros(2 * count)
        contrast[[count + best, count + other]] = 1, -1
        p.append(float(lines.fit.t_test(contrast).pvalue))
    return found.assign(p=[1.0, *holm(np.array(p))])


def offsets(models: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Compares every pair of families by parallel lines: what one needs of the other's compute.

    Columns: family, other, multiple with low and high (the horizontal shift at equal score, by
    Fieller's theorem as in a parallel-line assay; NaN where the common exponent may be 0), p of no
    shift by Holm over the pairs, and common, whether some score is within both ranges.

    Raises:
        TableError: too few families or models, or all of them have one score.
    """
    if models["value"].nunique() < 2:
        raise TableError(f"all models score {models['value'].iloc[0]:g}: no compute buys a better")
    lines, rows = fit_lines(models, axis, parallel=True), list[dict[str, Any]]()
    ranges = models.groupby("family")["value"].agg(["min", "max"])
    for i, j in combinations(range(len(lines.families)), 2):
        family, other = lines.families[i], lines.families[j]
        low, high = (
            ranges.loc[[family, other], "min"].max(),
            ranges.loc[[family, other], "max"].min(),
        )
        known = {"family": family, "other": other, **shift(lines.fit, i, j)}
        rows.append({**known, "common": float(low) <= float(high)})
    found = pd.DataFrame(rows)
    return found.assign(p=holm(found["p"].to_numpy()))


def shift(fit: RegressionResults, i: int, j: int) -> dict[str, float]:
    """Returns by how much line i lies to the right of line j, as a multiple; its interval; p.

    Fieller, J. R. Stat. Soc. B 16, 1954: the interval is where (D - m b)² ≤ t² var(D - m b).
    Where b may be 0 there is none, and no multiple that could be trusted.
    """
    contrast = np.zeros((2, len(fit.params)))
    contrast[0, [j, i]], contrast[1, -1] = (1, -1), 1
    d, b = contrast @ fit.params
    (dd, db), (_, bb) = contrast @ fit.cov_params() @ contrast.T
    t2 = float(stats.t.ppf(0.975, fit.df_resid)) ** 2
    p = float(2 * stats.t.sf(abs(d) / np.sqrt(dd), fit.df_resid))
    square, linear, rest = b**2 - t2 * bb, d * b - t2 * db, d**2 - t2 * dd
    if square <= 0:
        return {"multiple": np.nan, "low": np.nan, "high": np.nan, "p": p}
    root = np.sqrt(max(linear**2 - square * rest, 0))
    low, high = (linear - root) / square, (linear + root) / square
    multiple, low, high = (float(10**log) for log in (d / b, low, high))
    return {"multiple": multiple, "low": low, "high": high, "p": p}


def seen_from(found: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Returns the pairs with a family as the other of every one."""
    there = found[found["other"] == reference]
    turned = found[found["family"] == reference]
    turned = turned.assign(
        family=turned["other"],
        other=reference,
        multiple=1 / turned["multiple"],
        low=1 / turned["high"],
        high=1 / turned["low"],
    )
    return pd.concat([there, turned]).sort_values("multiple", ignore_index=True)
