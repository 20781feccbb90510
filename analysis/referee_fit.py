"""The referee's items on the fit: its form, what tests it, and whether it holds out of range.

A study whose runs end at one step has laws of the last scores by size; one whose runs end at steps
of their own, as of equal compute, has the joint law of size, tokens and images.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import fits, prediction
from analysis.diagnostics import diagnosis
from analysis.fits import GFLOPS, PRODUCT
from analysis.grid import axis_label, final, has_own_steps
from analysis.joint import Joint, Points, fit, points_from, points_of
from analysis.joint_bootstrap import bootstrap, predict
from analysis.joint_rows import formula
from analysis.table import RUN, TableError, listed

Item = tuple[bool, str]
DRAWS = 400  # of a held-out interval: a bound moves by 6 % of its half


def equation(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    if has_own_steps(rows):
        law = joint_of(table, metric)
        return True, (
            f"For {family_of(law.points)}, {formula(law)}: {int(law.free.sum())} free parameters."
        )
    family, own = largest_family(final(table, metric))
    law_name = PRODUCT if fits.is_fitted(own, PRODUCT) else GFLOPS
    found = fits.fit_law(own, law_name)
    terms = " ".join(
        f"{value:+.3f} log {name}"
        for value, name in zip(found.params[1:], fits.LAWS[law_name], strict=True)
    )
    return True, (
        f"For {family}, log10 {axis_label(rows)} = {found.params[0]:.3f} {terms} (params by 1e8,"
        f" tokens by 64), {len(found.params)} free parameters, from {int(found.nobs)} models."
    )


def largest_family(rows: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    name = str(rows["family"].value_counts().index[0])
    return name, rows[rows["family"].eq(name)]


def joint_of(table: pd.DataFrame, metric: str) -> Joint:
    """Returns the joint law of the family with most scores.

    Raises:
        TableError: too few runs or sizes for it.
    """
    return fit(max(points_of(table, metric), key=lambda points: len(points.y)))


def family_of(points: Points) -> str:
    return str(points.rows["family"].iloc[0])


def well_specified(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    if has_own_steps(rows):
        law = joint_of(table, metric)
        text = f"The joint law of {family_of(law.points)}: {diagnosis(law)}."
        refuted = text.split(": ", 1)[1].startswith("refuted")
        study = listed(rows["study"])
        lacks = (
            " Quote values inside of the fitted range; more sizes and budgets (`harness isoflop"
            f" {study}`) show which form holds."
        )
        return not refuted, text + lacks * refuted
    family, own = largest_family(final(table, metric))
    test = fits.misspecification(own, GFLOPS)
    if not test["p"] >= 0:
        need = 2 * own["patch"].nunique() + 1 if test["alternative"] == "a line per patch" else 4
        raise TableError(
            f"{family} has {len(own)} models, a test of its law against {test['alternative']} needs"
            f" {max(need, len(own) + 1)}: add sizes to the sweep's models"
        )
    text = (
        f"{test['alternative']} against one exponent of Gflops for {family}:"
        f" F({test['df']:g}, {test['df_residual']:g}) = {test['F']:.1f}, p = {test['p']:.2g}."
    )
    if test["p"] >= 0.05:
        return True, f"Not refuted: {text}"
    return False, (
        f"Refuted: {text} Quote the law in N and tokens, or exponents by patch; more sizes of each"
        " patch in the sweep's models show which holds."
    )


def held_out(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    if has_own_steps(rows):
        found, law = joint_hold_out(joint_of(table, metric).points), "the joint law"
        split = "Fitted to the runs of the smaller two thirds by compute"
    else:
        every = prediction.hold_out(table, metric)
        law = PRODUCT if every["law"].eq(PRODUCT).any() else GFLOPS
        found = every[every["law"].eq(law)]
        law, split = f"the law in {law}", "Fitted to the smaller two thirds by Gflops"
    held = found["truth"].between(found["low"], found["high"])
    text = (
        f"{split}, {law} predicts the others with a typical error of"
        f" {prediction.mean_error(found):.1%}; {held.sum()} of {len(found)} intervals hold the"
        " score."
    )
    if held.all():
        return True, text
    missed = listed(found.loc[~held, "model"])
    return False, (
        f"{text} Missed: {missed}. Larger models, or the run that `harness next"
        f" {listed(rows['study'])}` names, narrow it; write a forecast before they are trained."
    )


def joint_hold_out(points: Points) -> pd.DataFrame:
    """Predicts the last score of the runs of most compute from those of the lower two thirds.

    Raises:
        TableError: too few of these for the law.
    """
    rows = points.rows.assign(C=points.rows["gflops"] * points.rows["D"])
    runs = rows.groupby([name for name in RUN if name in rows], dropna=False)
    reached = runs["C"].transform("max")
    bound = np.quantile(runs["C"].max(), prediction.FITTED)
    fitted, others = rows[reached <= bound], rows[reached.gt(bound) & rows["C"].eq(reached)]
    if others.empty:
        raise TableError(
            "a hold-out by range needs runs of several budgets, all are of one: train some longer"
        )
    drawn = bootstrap(fit(points_from(fitted)), DRAWS)
    found = [
        {
            **predict(drawn, row["N"], row["T"], row["D"]),
            "model": row["model"],
            "truth": row["value"],
        }
        for _, row in others.iterrows()
    ]
    return pd.DataFrame(found)


def objective(table: pd.DataFrame, rows: pd.DataFrame, metric: str) -> Item:
    return True, (
        "Exponents by least squares of log scores, with t intervals; power law and joint law by a"
        " Huber loss in log, scale 1.345 robust deviations of a first pass, from a grid of starts,"
        " intervals by profile and by a wild bootstrap over runs."
    )
