"""Predictions as rows of the statistics: of the largest, held out, by each form, while running."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis import fits, forms, prediction, running
from analysis.grid import final
from analysis.rows import Row, row_of
from analysis.table import TableError


def prediction_of_the_largest(table: pd.DataFrame) -> list[Row]:
    """States what the laws say of each family's largest model from its others, and the truth."""
    rows = list[Row]()
    for family, part in final(table).groupby("family", sort=False):
        largest = part.iloc[-1]
        for _, row in prediction.predict(table, largest["model"]).iterrows():
            note = f"the score is {row['truth']:.4g}, {row['error']:+.1%}; {row['formula']}"
            if row.get("forms", 0) > 0:
                note += (
                    f"; {row['forms']:g} forms that do as well give {row['forms_low']:.3g} to"
                    f" {row['forms_high']:.3g}"
                )
            rows.append(
                row_of(
                    f"{largest['model']}, law in {row['law']}",
                    row["prediction"],
                    (row["low"], row["high"]),
                    ".3g",
                    "t, prediction",
                    row["n"],
                    note,
                    str(family),
                )
            )
    return rows


def held_out(
    table: pd.DataFrame, predict: Callable[[pd.DataFrame], pd.DataFrame], name: str
) -> list[Row]:
    """States the typical error of predictions by each law, and how many intervals hold the score.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    rows = list[Row]()
    for (family, law), part in predict(table).groupby(["family", "law"], sort=False):
        held = part["truth"].between(part["low"], part["high"]).sum()
        logs = np.log(part["prediction"] / part["truth"])
        bias = f"mean error {np.expm1(logs.mean()):+.1%}"
        note = f"{held} of {len(part)} intervals hold the score, {bias}"
        rows.append(
            row_of(
                f"{name}, law in {law}",
                prediction.mean_error(part),
                None,
                ".1%",
                "exp(mean |log|) \N{MINUS SIGN} 1",
                len(part),
                note,
                str(family),
            )
        )
    return rows


def specifications(table: pd.DataFrame) -> list[Row]:
    """States what each term of a law does to the prediction of each family's largest model.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    rows = list[Row]()
    models = fits.positive(fits.one_study(final(table)))
    for family, part in models.groupby("family", sort=False):
        others, target = fits.complete(part.iloc[:-1], fits.PRODUCT), part.tail(1)
        if len(others) < 4:
            continue
        found = forms.curve(others, target)
        name = f"{target['model'].iloc[0]}: prediction with"
        for _, effect in forms.main_effects(found).iterrows():
            note = (
                f"leave-one-out error × {effect['error_ratio']:.2g}; a law with it by one without,"
                f" {effect['forms']} of {len(found)} forms"
            )
            term = f"{name} {effect['term']}"
            row = row_of(term, effect["ratio"], None, ".3f", "ratio of means", len(others), note)
            rows.append({**row, "family": str(family)})
    if not rows:
        raise TableError("a specification curve needs 5 models of a family: train more")
    return rows


def running_curves(table: pd.DataFrame) -> list[Row]:
    """States how well last scores are predicted from earlier ones, and those of unfinished runs.

    Raises:
        TableError: one step alone, or too few finished runs.
    """
    found = running.running(table)
    rows = []
    for _, row in running.calibration(found).iterrows():
        note = f"{row['held']} of {row['runs']} intervals hold the score, {row['width']:.2g} × wide"
        name, method = (
            f"last score from step {row['step']:,.0f}",
            "exp(mean |log|) \N{MINUS SIGN} 1",
        )
        error = row_of(name, row["error"], None, ".1%", method, int(row["runs"]), note)
        rows.append({**error, "family": row["family"]})
    ahead = found[found["truth"].isna()].drop_duplicates("run", keep="last")
    for _, row in ahead.iterrows():
        bounds, note = (
            (row["low"], row["high"]),
            f"at step {row['step']:,.0f} it is {row['value']:.4g}",
        )
        name = f"{row['run']} at step {row['last']:,.0f}"
        method = "t, gains of finished runs"
        made = row_of(name, row["prediction"], bounds, ".3g", method, found["run"].nunique(), note)
        rows.append({**made, "family": row["family"]})
    return rows
