"""The best learning rate of each model: the minimum of a parabola in log rate, with interval."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analysis.curves import value_text
from analysis.grid import ONE_AXIS, over_samplings
from analysis.learning_rate_curve import Curve, fit, points
from analysis.models import with_family
from analysis.table import HIGHER_IS_BETTER, TableError, listed, uncertain

# A factor of 4 to both sides of the best rate; further away scores bend unlike a parabola, and
# rates that diverge are there.
REACH = np.log(4) + 1e-6
RATES = 3  # of a parabola
# Scores that differ in one of these have best rates of their own.
SETTING = ["study", "family", "conditioning", "others", *ONE_AXIS]
# Of a name such as 'w64-d2-h16': widths are one axis where all the rest is alike.
WIDTH = r"^w(?P<width>\d+)-(?P<rest>.*)$"
LOWEST, HIGHEST, FLAT = "the lowest of its grid", "the highest of its grid", "no minimum"


def optima(table: pd.DataFrame, metric: str, protocol: str | None = None) -> pd.DataFrame:
    """Returns the best rate of every model and batch size that was trained at three rates or more.

    Columns: setting (what else varies), model, params, gflops, width (NaN where no axis),
    batch_size, step, rates, runs; best (the rate of the best score), lr with low and high (95 %,
    NaN where not known), error (of its log) with df, by_skew (how far that moves with the skew of
    all models), and edge: why the best is no optimum inside of its grid, else empty.

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
    if protocol is not None:
        usable &= table["protocol"].eq(protocol)
    rows = over_samplings(with_family(table[usable])).fillna({"batch_size": 0})
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
    return part[away.between(np.fmin(below, -REACH), np.fmax(above, REACH))]


def with_minimum(
    one: dict[str, Any], part: pd.DataFrame, curve: Curve | None
) -> tuple[dict[str, Any], pd.DataFrame, Curve | None]:
    """Adds lr, low and high; what no rate was tried at is not known."""
    first, last = float(part["x"].min()), float(part["x"].max())
    if curve is None or not first <= curve.vertex <= last:
        edge = one["edge"] or FLAT
        unknown = {"low": np.nan, "high": np.nan}
        return {**one, "lr": one["best"], **unknown, "edge": edge}, part, None
    low, high = np.exp(curve.bounds(first, last))
    errors = {"error": curve.error, "df": curve.df, "by_skew": curve.by_skew}
    known = {"lr": float(np.exp(curve.vertex)), "low": low, "high": high}
    return {**one, **known, **errors}, part, curve
