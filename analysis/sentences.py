"""The statistics of a study in sentences; a sentence that cannot be written gives its reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pandas as pd

from analysis import comparison, fits, laws
from analysis.correlation import correlation, correlation_text
from analysis.grid import axis_label, final, grid
from analysis.table import METRICS, TableError

T = TypeVar("T")


def statistics(table: pd.DataFrame, missing: list[str]) -> list[str]:
    """Returns every sentence the table allows; appends to `missing` why not the others."""
    sentences = [attempt(name, partial(write, table), missing) for name, write in SENTENCES.items()]
    return [sentence for sentence in sentences if sentence]


def attempt(name: str, make: Callable[[], T], missing: list[str]) -> T | None:
    """Returns what is made, or None after appending the name and the reason to `missing`."""
    try:
        return make()
    except TableError as reason:
        missing.append(f"{name}: {reason}.")
        return None


def correlations(table: pd.DataFrame) -> str:
    sized = table[table["size"].ne("")]
    counts = {name: sized.loc[sized["metric"].eq(name), "model"].nunique() for name in METRICS}
    metrics = [name for name, count in counts.items() if count > 2]
    if not metrics:
        raise TableError("no metric has 3 models at one step: train and score more")
    found = {name: correlation(table, name) for name in metrics}
    texts = [
        f"{axis_label(grid(table, name))}: {correlation_text(rows)}" for name, rows in found.items()
    ]
    sizes = found[metrics[0]].iloc[0]
    whole = f"over whole sizes, Pearson [{sizes['size_low']:.2f}, {sizes['size_high']:.2f}]"
    return (
        f"Correlation with log Gflops, 95 % BCa intervals over models. {'. '.join(texts)}; {whole}."
    )


def slopes_by_patch(table: pd.DataFrame) -> str:
    texts = [
        f"patch {row['patch']:g} {row['slope']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        for _, row in fits.slopes_by_patch(table).iterrows()
    ]
    return f"Exponent of the score in Gflops by patch: {', '.join(texts)}." if texts else ""


def power_laws(table: pd.DataFrame) -> str:
    fitted = [laws.power_law(table, floor=floor) for floor in (False, True)]
    return " ".join(laws.power_law_text(law) for law in fitted)


def prediction_of_the_largest(table: pd.DataFrame) -> str:
    largest = final(table).iloc[-1]
    texts = [
        f"the law in {row['law']} ({row['formula']}) says {row['prediction']:.3g}"
        f" [{row['low']:.3g}, {row['high']:.3g}], {row['error']:+.1%}"
        for _, row in fits.predict(table, largest["model"]).iterrows()
    ]
    truth = f"the truth is {largest['value']:.4g}"
    return f"{largest['model']} from the others: {'; '.join(texts)}; {truth}."


def leave_one_out(table: pd.DataFrame) -> str:
    rows = fits.leave_one_out(table)
    means = rows["error"].abs().groupby(rows["law"]).mean()
    texts = [f"{error:.1%} in {law}" for law, error in means.items()]
    return f"Leave-one-out error, mean: {', '.join(texts)}."


def frontier(table: pd.DataFrame) -> str:
    models = dict.fromkeys(laws.frontier(table)["model"])
    return f"The compute frontier, from cheap to dear: {', '.join(models)}."


def isoflop_parabolas(table: pd.DataFrame) -> str:
    optima = laws.isoflop(table)
    optima = optima[optima["inside"].astype(bool)]
    if optima.empty:
        raise TableError(
            "no training compute at which three sizes of one patch have a best one among them:"
            " score earlier"
        )
    texts = [
        f"patch {row['patch']:g} at {row['compute']:.1e}: {row['params']:.3g}"
        for _, row in optima.iterrows()
    ]
    return f"Best number of parameters at equal training compute: {', '.join(texts)}."


def noise_of_training(table: pd.DataFrame) -> str:
    deviation, origin = comparison.noise(table)
    if pd.isna(deviation):
        raise TableError(origin)
    return f"Noise of training: {deviation:.1%} of a score, from {origin}."


SENTENCES: dict[str, Callable[[pd.DataFrame], str]] = {
    "Correlations": correlations,
    "Slopes by patch": slopes_by_patch,
    "Power laws": power_laws,
    "Prediction of the largest": prediction_of_the_largest,
    "Leave one out": leave_one_out,
    "Frontier": frontier,
    "Isoflop parabolas": isoflop_parabolas,
    "Noise of training": noise_of_training,
}
