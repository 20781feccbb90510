"""What the statistics say, in sentences; a sentence that cannot be said gives its reason instead."""

from collections.abc import Callable
from functools import partial

import pandas as pd

from analysis import comparison, fits, laws
from analysis.tables import METRICS, axis_label, final, grid


def statistics(table: pd.DataFrame, missing: list[str]) -> list[str]:
    """Every sentence the table allows; `missing` receives the reasons for the others."""
    said = [attempt(say.__name__.strip("_"), partial(say, table), missing) for say in SAYINGS]
    return [text for text in said if text]


def attempt(what: str, say: Callable[[], str], missing: list[str]) -> str:
    try:
        return say()
    except ValueError as reason:
        missing.append(f"{what.replace('_', ' ').capitalize()}: {reason}.")
        return ""


def _correlations(table: pd.DataFrame) -> str:
    gridded = table[table["size"].ne("")]
    metrics = [
        name for name in METRICS if gridded.loc[gridded["metric"].eq(name), "model"].nunique() > 2
    ]
    found = [fits.correlation(table, name) for name in metrics]
    if not found:
        raise ValueError("no metric has 3 models at one step: train and score more")
    names = [axis_label(grid(table, name)) for name in metrics]
    said = [f"{name}: {fits.in_words(rows)}" for name, rows in zip(names, found, strict=True)]
    sizes = found[0].iloc[0]
    whole = f"over whole sizes, Pearson [{sizes['size_low']:.2f}, {sizes['size_high']:.2f}]"
    return (
        f"Correlation with log Gflops, 95 % BCa intervals over models. {'. '.join(said)}; {whole}."
    )


def _slopes_by_patch(table: pd.DataFrame) -> str:
    found = fits.slopes_by_patch(table)
    said = [
        f"patch {r['patch']:g} {r['slope']:.3f} [{r['low']:.3f}, {r['high']:.3f}]"
        for _, r in found.iterrows()
    ]
    return f"Exponent of the score in Gflops by patch: {', '.join(said)}." if said else ""


def _power_laws(table: pd.DataFrame) -> str:
    return " ".join(laws.statement(laws.power_law(table, floor=floor)) for floor in (False, True))


def _prediction_of_the_largest(table: pd.DataFrame) -> str:
    largest = final(table)["model"].iloc[-1]
    said = [
        f"the law in {r['law']} ({r['formula']}) says {r['prediction']:.3g} [{r['low']:.3g}, {r['high']:.3g}], "
        f"{r['error']:+.1%}"
        for _, r in fits.predict(table, largest).iterrows()
    ]
    return f"{largest} from the others: {'; '.join(said)}; the truth is {final(table)['value'].iloc[-1]:.4g}."


def _leave_one_out(table: pd.DataFrame) -> str:
    found = fits.leave_one_out(table)
    mean = found.assign(error=found["error"].abs()).groupby("law")["error"].mean()
    return f"Leave-one-out error, mean: {', '.join(f'{error:.1%} in {law}' for law, error in mean.items())}."


def _frontier(table: pd.DataFrame) -> str:
    found = laws.frontier(table)
    return f"The compute frontier, from cheap to dear: {', '.join(dict.fromkeys(found['model']))}."


def _isoflop_parabolas(table: pd.DataFrame) -> str:
    found = laws.isoflop(table)
    found = found[found["inside"].astype(bool)]
    if found.empty:
        raise ValueError(
            "no training compute at which three sizes of one patch have a best one among them: score earlier"
        )
    said = [
        f"patch {r['patch']:g} at {r['compute']:.1e}: {r['params']:.3g}"
        for _, r in found.iterrows()
    ]
    return f"Best number of parameters at equal training compute: {', '.join(said)}."


def _noise_of_training(table: pd.DataFrame) -> str:
    spread, known_from = comparison.noise(table)
    if pd.isna(spread):
        raise ValueError(known_from)
    return f"Noise of training: {spread:.1%} of a score, from {known_from}."


SAYINGS = [
    _correlations,
    _slopes_by_patch,
    _power_laws,
    _prediction_of_the_largest,
    _leave_one_out,
    _frontier,
    _isoflop_parabolas,
    _noise_of_training,
]
