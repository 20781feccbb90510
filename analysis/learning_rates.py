"""The best learning rate of each model: the minimum of a parabola in log rate, with interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.correlation import Array
from analysis.curves import value_text
from analysis.grid import ONE_AXIS, over_samplings
from analysis.models import with_family
from analysis.table import HIGHER_IS_BETTER, TableError, listed, uncertain

# A factor of 4 to both sides of the best rate; further away scores bend unlike a parabola, and
# rates that diverge are there.
REACH = np.log(4) + 1e-6
RATES = 3  # of a parabola
PLACES = 2_000  # of a grid of rates: 0.1 % of a rate over a factor of 10
# Scores that differ in one of these have best rates of their own.
SETTING = ["study", "family", "conditioning", "others", *ONE_AXIS]
# Of a name such as 'w64-d2-h16': widths are one axis where all the rest is alike.
WIDTH = r"^w(?P<width>\d+)-(?P<rest>.*)$"
LOWEST, HIGHEST, FLAT = "the lowest of its grid", "the highest of its grid", "no minimum"


@dataclass(frozen=True)
class Curve:
    """Log scores in log rate about `centre`: coefficients of 1, x, x², x³, of which the last is
    that of all models; the noise is that of all.
    """

    centre: float
    coefficients: Array
    inverse: Array  # of the normal equations, [4, 4]
    variance: float  # NaN where no score is left over to tell it
    df: int

    def score(self, x: Array) -> Array:
        """Returns the log score at log rates."""
        return np.asarray(np.vander(x - self.centre, 4, increasing=True) @ self.coefficients)

    @property
    def vertex(self) -> float:
        """The log rate of the minimum; NaN where the curve has none."""
        _, slope, curve, skew = self.coefficients
        root = curve**2 - 3 * skew * slope
        # The smaller root of skew 3 x² + 2 curve x + slope, in the form that holds at skew 0.
        return float(self.centre - slope / (curve + np.sqrt(root))) if root > 0 else float("nan")

    def bounds(self, first: float, last: float) -> tuple[float, float]:
        """Returns the 95 % interval of the minimum between two log rates, NaN if it reaches one.

        It holds the rates at which the slope may be 0 (Fieller, J. R. Stat. Soc. B 16, 1954): of a
        weak curvature a first-order interval is too short.
        """
        rates = np.linspace(first, last, PLACES)
        x = rates - self.centre
        rows = np.column_stack([0 * x, np.ones(PLACES), 2 * x, 3 * x**2])
        error = np.sqrt(self.variance * np.einsum("ij,jk,ik->i", rows, self.inverse, rows))
        refuted = np.abs(rows @ self.coefficients) > quantile(self.df) * error
        below, above = (
            rates[refuted & side] for side in (rates < self.vertex, rates > self.vertex)
        )
        if not self.df or not len(below) or not len(above):
            return float("nan"), float("nan")
        return float(below.max()), float(above.min())


def quantile(df: float) -> float:
    return float(stats.t.ppf(0.975, df)) if df > 0 else float("nan")


def optima(table: pd.DataFrame, metric: str, protocol: str | None = None) -> pd.DataFrame:
    """Returns the best rate of every model and batch size that was trained at three rates or more.

    Columns: setting (what else varies), model, params, gflops, width (NaN where no axis),
    batch_size, step, rates, runs; best (the rate of the best score), lr with low and high (95 %,
    NaN where not known), and edge: why the best is no optimum inside of its grid, else empty.

    Raises:
        TableError: no model has three rates.
    """
    rows, found = rated(table, metric, protocol), list[dict[str, Any]]()
    for setting, part in rows.groupby("setting", sort=False):
        found += [{"setting": setting, **row} for row, _, _ in curves(part)]
    return pd.DataFrame(found)


def rated(table: pd.DataFrame, metric: str, protocol: str | None = None) -> pd.DataFrame:
    """Returns the scores of models with three rates or more, at the last step that most have.

    Added columns: x and y, the logs of rate and score (of a score that is better if higher, its
    negative), width, and setting.

    Raises:
        TableError: no model has three rates.
    """
    usable = table["metric"].eq(metric) & table["value"].gt(0) & table["lr"].gt(0)
    usable &= table["gflops"].gt(0) & ~uncertain(table)
    rows = with_family(table[usable & (table["protocol"].eq(protocol) | (protocol is None))])
    rows = over_samplings(rows).fillna({"batch_size": 0})
    own = [*SETTING, "model", "batch_size"]
    counts = rows.groupby([*own, "step"], dropna=False)["lr"].transform("nunique")
    most = counts.groupby([rows[name] for name in own], dropna=False).transform("max")
    rows = rows[counts.eq(most) & most.ge(RATES)]
    latest = rows.groupby(own, dropna=False)["step"].transform("max")
    rows = rows[rows["step"].eq(latest)]
    if rows.empty:
        known = listed(table.loc[table["metric"].eq(metric), "lr"].dropna())
        raise TableError(
            f"no model has {metric} at {RATES} learning rates (there is {known}):"
            " sweep lr over five rates, each twice the one before, for every size"
        )
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    logs = {"x": np.log(rows["lr"]), "y": sign * np.log(rows["value"])}
    return rows.assign(**logs, width=widths(rows["size"]), setting=settings(rows))


def settings(rows: pd.DataFrame) -> list[str]:
    """Returns what varies between the settings: 'parametrization mup'; empty where nothing does.

    Where no field is given that others have, as of the standard parametrization, it is 'standard'.
    """
    varied = [name for name in SETTING if rows[name].nunique(dropna=False) > 1]
    if not varied:
        return [""] * len(rows)
    texts = [
        ", ".join(
            value_text(name, row[name]) for name in varied if row[name] and row[name] == row[name]
        )
        for row in rows[varied].to_dict("records")
    ]
    return [text or "standard" for text in texts]


def widths(sizes: pd.Series) -> pd.Series:
    """Returns the widths of names that differ in nothing else, NaN where others do."""
    parts = sizes.str.extract(WIDTH)
    alike = parts["rest"].nunique(dropna=False) == 1
    return parts["width"].astype(float) if alike else pd.Series(np.nan, sizes.index)


def curves(rows: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame, Curve | None]]:
    """Returns of every model and batch of a setting: its facts, its scores, and its curve if the
    minimum of that is inside of the rates tried.
    """
    parts = [part for _, part in rows.groupby(["gflops", "model", "batch_size"])]
    found = [facts(part) for part in parts]
    inside = [i for i, one in enumerate(found) if not one["edge"]]
    near = [near_best(parts[i], found[i]["best"]) for i in inside]
    fitted = dict(zip(inside, fit([*map(points, near)]), strict=True)) if inside else {}
    each = enumerate(zip(found, parts, strict=True))
    return [with_minimum(one, part, fitted.get(i)) for i, (one, part) in each]


def facts(part: pd.DataFrame) -> dict[str, Any]:
    """Returns what one model's scores are of, and the rate of the best."""
    means, first = part.groupby("lr")["y"].mean(), part.iloc[0]
    best = int(means.to_numpy().argmin())
    edge = LOWEST if best == 0 else HIGHEST if best == len(means) - 1 else ""
    known = {name: first[name] for name in ("model", "params", "gflops", "width", "batch_size")}
    found = {**known, "step": first["step"], "rates": len(means), "runs": len(part)}
    return {**found, "best": float(means.index[best]), "edge": edge}


def near_best(part: pd.DataFrame, best: float) -> pd.DataFrame:
    """Returns the scores within a factor of 4 of the best rate, its neighbours among them."""
    away = np.log(part["lr"] / best)
    below, above = away[away < 0].max(), away[away > 0].min()
    return part[away.between(min(below, -REACH), max(above, REACH))]


def points(near: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per rate: x about the best, mean y, runs, and the squares of these about it."""
    found = near.groupby("x")["y"].agg(["mean", "size", "var"]).reset_index()
    squares = found["var"].fillna(0) * (found["size"] - 1)
    return found.assign(centre=found["x"][found["mean"].idxmin()], squares=squares)


def fit(models: list[pd.DataFrame]) -> list[Curve]:
    """Fits a parabola to each model, with one skew of all where the scores can tell it.

    Above its best rate a loss grows faster than below: parabolas alone put the minimum a quarter
    to a half of an octave too low (docs/laws.md). The noise is that of the means of each rate about
    the curves, so that many seeds do not hide a shape that is another; of as many rates as
    coefficients it is that of the seeds.
    """
    every, wide = pd.concat(models, keys=range(len(models))), 3 * len(models)
    x, weight = (every["x"] - every["centre"]).to_numpy(float), np.sqrt(every["size"].to_numpy())
    columns, model = np.zeros((len(x), wide + 1)), every.index.get_level_values(0)
    for power in range(3):
        columns[np.arange(len(x)), 3 * model + power] = x**power
    columns[:, -1] = x**3
    if np.linalg.matrix_rank(columns) == wide or len(x) <= wide + 1:
        columns[:, -1] = 0
    columns, y = columns * weight[:, None], every["mean"].to_numpy(float) * weight
    inverse = np.linalg.pinv(columns.T @ columns, rcond=1e-12)
    coefficients = inverse @ columns.T @ y
    variance, df = noise_of(every, y - columns @ coefficients, np.linalg.matrix_rank(columns))
    places = [[*range(3 * i, 3 * i + 3), wide] for i in range(len(models))]
    return [
        Curve(own["centre"].iloc[0], coefficients[at], inverse[np.ix_(at, at)], variance, df)
        for own, at in zip(models, places, strict=True)
    ]


def noise_of(every: pd.DataFrame, residuals: Array, rank: int) -> tuple[float, int]:
    """Returns the variance of one run and its degrees of freedom: NaN and 0 where none are."""
    df, squares = len(every) - rank, float((residuals**2).sum())
    if not df:
        df, squares = int((every["size"] - 1).sum()), float(every["squares"].sum())
    return (squares / df if df else float("nan")), df


def with_minimum(
    one: dict[str, Any], part: pd.DataFrame, curve: Curve | None
) -> tuple[dict[str, Any], pd.DataFrame, Curve | None]:
    """Adds lr, low and high; what no rate was tried at is not known."""
    first, last = float(part["x"].min()), float(part["x"].max())
    if curve is None or not first <= curve.vertex <= last:
        edge = one["edge"] or FLAT
        return {**one, "lr": one["best"], "low": np.nan, "high": np.nan, "edge": edge}, part, None
    low, high = np.exp(curve.bounds(first, last))
    return {**one, "lr": float(np.exp(curve.vertex)), "low": low, "high": high}, part, curve
