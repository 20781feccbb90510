"""The statistics of a study as rows and as sentences; what cannot be computed gives its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pandas as pd

from analysis import fits, laws, prediction
from analysis.correlation import (
    axes_of,
    bca_interval,
    correlation,
    decimals,
    jackknife_interval,
)
from analysis.families_rows import family_rows
from analysis.grid import axis_label, final, grid
from analysis.joint_rows import joint_rows, loss_rows
from analysis.learning_rate_rows import rate_rows
from analysis.noise import UNKNOWN, interval, noise, sampling_noise
from analysis.prediction_rows import (
    held_out,
    prediction_of_the_largest,
    running_curves,
    specifications,
)
from analysis.rows import Row, attempt, row_of
from analysis.table import METRICS, TableError

COLUMNS = "section family statistic estimate interval method n note value low high".split()


def statistics(
    table: pd.DataFrame, missing: list[str] | None = None, sections: Iterable[str] | None = None
) -> pd.DataFrame:
    """Returns every statistic the table allows as rows; appends to `missing` why not the others.

    `sections` are the names of those that are wanted, where not all are.

    Columns: section, family, statistic; estimate and interval as text with the digits that are
    known; method of the interval, n (models or runs), note; value, low, high as numbers. All
    intervals are 95 %; what they cover is in docs/statistics.md.
    """
    missing = [] if missing is None else missing
    wanted = [name for name in SECTIONS if sections is None or name in sections]
    made = {name: attempt(name, partial(SECTIONS[name], table), missing) for name in wanted}
    rows = [{"section": name, **row} for name, found in made.items() for row in found or []]
    return pd.DataFrame(rows, columns=COLUMNS)


def findings(table: pd.DataFrame, missing: list[str] | None = None) -> list[str]:
    """Returns the rows of `statistics` as one sentence a section."""
    return [
        f"{section}: {'; '.join(row_text(row) for _, row in rows.iterrows())}."
        for section, rows in statistics(table, missing).groupby("section", sort=False)
    ]


def row_text(row: pd.Series) -> str:
    """States one row: 'b 0.360 [0.260, 0.469] (profile, n = 12), refuted by ...'."""
    interval = f" {row['interval']}" if row["interval"] else ""
    note = f", {row['note']}" if row["note"] else ""
    method = f"{row['method']}, " if row["method"] else ""
    return f"{row['statistic']} {row['estimate']}{interval} ({method}n = {row['n']}){note}"


def correlations(table: pd.DataFrame) -> list[Row]:
    """Correlates every metric with log Gflops, of each family."""
    known = [name for name in METRICS if table["metric"].eq(name).any()]
    rows, reasons = [], list[str]()
    for name in known:
        rows += attempt(METRICS[name], partial(correlations_of, table, name), reasons) or []
    if not rows:
        raise TableError(reasons[0].rstrip(".") if reasons else "the table has no scores")
    return rows


def correlations_of(table: pd.DataFrame, metric: str) -> list[Row]:
    label, rows, models = axis_label(grid(table, metric)), [], final(table, metric)
    for _, found in correlation(table, metric).iterrows():
        name = f"{label}, {found['statistic'].capitalize()} with log Gflops"
        bounds = (found["low"], found["high"])
        same: Row = {"n": found["n"], "family": found["family"]}
        rows.append(row_of(name, found["value"], bounds, ".2f", found["method"], **same))
        if found["statistic"] == "pearson":
            own = models[models["family"].eq(found["family"]) & models["study"].eq(found["study"])]
            bca = bca_interval(*axes_of(own))
            form = f".{decimals(bca['error'])}f"
            note = f"draws alone move a bound by {bca['error']:.1g}" if bca["error"] > 0 else ""
            bounds = (bca["low"], bca["high"])
            rows.append(row_of(name, found["value"], bounds, form, "BCa", note=note, **same))
    return rows


def exponents(table: pd.DataFrame) -> list[Row]:
    """States the exponents of both laws, each beside the test of its law, and those by patch."""
    found = fits.exponents(table)
    rows = [
        row_of(
            f"exponent of {row['exponent of']}, law in {row['law']}",
            row["value"],
            (row["low"], row["high"]),
            ".3f",
            "t, least squares of logs",
            row["n"],
            test_text(row),
            row["family"],
        )
        for _, row in found.iterrows()
    ]
    return rows + [
        row_of(
            f"exponent of gflops at patch {row['patch']:g}",
            row["slope"],
            (row["low"], row["high"]),
            ".3f",
            "t, least squares of logs",
            row["n"],
            family=row["family"],
        )
        for _, row in fits.slopes_by_patch(table).iterrows()
    ]


def test_text(row: pd.Series) -> str:
    """States what the F test of `misspecification` says of a law."""
    if not np.isfinite(row["p"]):
        return f"too few models to test it against {row['alternative']}"
    test = f"F({row['df']:g}, {row['df_residual']:g}) = {row['F']:.1f}, p = {row['p']:.1g}"
    if row["p"] < 0.05:
        return f"refuted: {row['alternative']} fits better, {test}"
    return f"{row['alternative']} does not fit better, {test}"


def power_laws(table: pd.DataFrame) -> list[Row]:
    """States the power law without and with a floor; of the first also jackknife-t intervals."""
    rows = list[Row]()
    for floor, form in ((False, "a / Gflops^b"), (True, "a / Gflops^b + c")):
        for _, row in laws.power_law(table, floor=floor).iterrows():
            note = "" if row["identified"] else "not identified: these points fit all of it"
            bounds, name = (row["low"], row["high"]), f"{row['parameter']} of {form}"
            rows.append(
                row_of(name, row["value"], bounds, ".3g", "profile", row["n"], note, row["family"])
            )
    return rows


def whole_groups(table: pd.DataFrame) -> list[Row]:
    """States the exponent of Gflops with its interval over whole sizes and over whole patches."""
    rows, reasons = list[Row](), list[str]()
    models = fits.positive(fits.one_study(final(table)))
    for family, part in models.groupby("family", sort=False):
        for by in ("size", "patch"):
            found = attempt(by, partial(jackknife_interval, slope, part, by), reasons)
            if found:
                bounds, method = (found["low"], found["high"]), f"jackknife-t over {by}"
                name, n = "exponent of gflops, law in Gflops", found["groups"]
                rows.append(row_of(name, slope(part), bounds, ".2f", method, n, family=str(family)))
    if not rows:
        raise TableError("; ".join(reasons).rstrip("."))
    return rows


def slope(rows: pd.DataFrame) -> float:
    return float(fits.fit_law(rows, fits.GFLOPS).params[1])


def frontier(table: pd.DataFrame) -> list[Row]:
    """States which models have been the best of what their training compute buys."""
    points = laws.frontier(table)
    models = " \N{RIGHTWARDS ARROW} ".join(dict.fromkeys(points["model"]))
    row = row_of("from cheap to dear", np.nan, None, "g", "means over seeds", len(points))
    return [{**row, "estimate": models}]


def noise_of_training(table: pd.DataFrame) -> list[Row]:
    """States how much two runs of one recipe differ, and how much of it images alone may be."""
    found = noise(table)
    if found.origin == UNKNOWN:
        raise TableError(UNKNOWN)
    method, runs = (
        f"\N{GREEK SMALL LETTER CHI}², {found.df:g} degrees of freedom",
        int(found.by_patch["runs"].sum()),
    )
    rows = [
        row_of(
            "one run, training and sampling",
            found.sd,
            found.interval(),
            ".1%",
            method,
            runs,
            found.origin,
        )
    ]
    if found.by_patch["sd"].nunique() > 1:
        rows += [
            row_of(
                f"one run at patch {row['patch']:g}",
                row["sd"],
                interval(row["sd"], row["df"]),
                ".1%",
                f"\N{GREEK SMALL LETTER CHI}², {row['df']:.0f} degrees of freedom",
                int(row["runs"]),
            )
            for _, row in found.by_patch.iterrows()
        ]
    if np.isfinite(found.size[0]):
        exponent, low, high = found.size
        note = "" if found.differs_by_size else "sizes are not told apart: one noise is for all"
        method = "log variances within patches, weighted"
        name = "exponent of noise in Gflops"
        rows.append(row_of(name, exponent, (low, high), ".2f", method, runs, note))
    sampled = attempt("sampling", partial(sampling_noise, table), [])
    if sampled and np.isfinite(sampled[0]):
        note = "FID∞'s own standard error, median; images alone, without training"
        rows.append(row_of("sampling", sampled[0], None, ".1%", "line of FID∞", sampled[1], note))
    return rows


SECTIONS: dict[str, Callable[[pd.DataFrame], list[Row]]] = {
    "Correlations": correlations,
    "Families": family_rows,
    "Exponents": exponents,
    "Power laws": power_laws,
    "Over whole sizes and patches": whole_groups,
    "Prediction of the largest": prediction_of_the_largest,
    "Leave one out": partial(held_out, predict=prediction.leave_one_out, name="error"),
    "Hold-out by range": partial(
        held_out, predict=prediction.hold_out, name="error above two thirds by Gflops"
    ),
    "Specification curve": specifications,
    "Joint law of size, tokens and images": joint_rows,
    "FID by loss": loss_rows,
    "Learning rate": rate_rows,
    "Running curves": running_curves,
    "Frontier": frontier,
    "Noise of one run": noise_of_training,
}
# Those of what varies between the parts of a table.
WHOLE = ("Learning rate",)
