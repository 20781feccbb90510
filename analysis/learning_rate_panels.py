"""Panels of the learning rate: each model's scores with their parabola, and the law by size."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from analysis import style
from analysis.axes import label_score, log_axis, score_axis, set_title
from analysis.labels import label
from analysis.learning_rate_curve import Curve
from analysis.learning_rate_law import BATCH, SIZES, RateLaw, fit
from analysis.learning_rate_rows import by_setting, rate_metrics
from analysis.learning_rates import LOWEST, curves, near_best, optima, rated
from analysis.rows import attempt
from analysis.table import TableError

MOST = 3  # settings that have a panel each
RATE = "Learning rate"


def rate_panels(table: pd.DataFrame) -> list[list[dict[str, Any]]]:
    """Returns the arguments of a panel for each setting, and of one for the law.

    Raises:
        TableError: no score has models with three learning rates.
    """
    reasons = list[str]()
    for metric in rate_metrics(table):
        rows = attempt(metric, partial(rated, table, metric), reasons)
        if rows is not None:
            names = list(rows["setting"].unique())
            shown = [{"metric": metric, "setting": name} for name in names[:MOST]]
            return [[*shown, {"metric": metric}]]
    raise TableError(reasons[0].partition(": ")[2].rstrip(".") if reasons else "no scores")


def rates(table: pd.DataFrame, ax: Axes, metric: str, setting: str | None = None) -> Axes:
    """Draws the scores of a setting over the rate, or the best rates of all settings over size.

    Raises:
        TableError: no model has three learning rates.
    """
    if setting is None:
        return best_rates(optima(table, metric), ax)
    every = rated(table, metric)
    found = curves(every[every["setting"].eq(setting)])
    models = [part for _, part, _ in found]
    near = pd.concat([near_best(part, one["best"]) for one, part, _ in found])
    place_axes(ax, every, near)
    inks = style.ramp(len(models))
    for (one, part, curve), ink in zip(found, inks, strict=True):
        draw_scores(ax, near_best(part, one["best"]), means(part), curve, ink)
    shown = [near[near["model"].eq(o["model"]) & near[BATCH].eq(o[BATCH])] for o, _, _ in found]
    marks = [means(part)[["lr", "value"]].to_numpy(float) for part in shown]
    label(ax, marks, names(pd.concat(models), models), inks)
    label_score(ax, every)
    set_title(ax, setting or "by learning rate")
    return ax


def means(part: pd.DataFrame) -> pd.DataFrame:
    return part.groupby("lr", as_index=False)[["value", "y"]].mean()


def place_axes(ax: Axes, every: pd.DataFrame, near: pd.DataFrame) -> None:
    low, high = every["lr"].min(), every["lr"].max()
    log_axis(ax.xaxis, low / 1.3, high * 1.3)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    score_axis(ax, near["value"])
    ax.set(xlabel=RATE)


def names(rows: pd.DataFrame, models: list[pd.DataFrame]) -> list[str]:
    """Returns what tells the curves apart: size, and batch where that varies."""
    several = rows[BATCH].nunique() > 1
    found = []
    for part in models:
        first = part.iloc[0]
        wide = f"width {first['width']:g}" if first["width"] > 0 else ""
        name = wide or (f"{first['size']}/{first['patch']:g}" if first["size"] else first["model"])
        found.append(f"{name}, batch {first[BATCH]:g}" if several else name)
    return found


def draw_scores(
    ax: Axes, near: pd.DataFrame, points: pd.DataFrame, curve: Curve | None, ink: str
) -> None:
    """Draws one model's mean scores, its curve near the best rate, and a ring at its minimum."""
    ax.plot(points["lr"], points["value"], "o", color=ink, label=near["model"].iloc[0])
    if curve is None:
        return
    x = np.linspace(near["x"].min(), near["x"].max(), 60)
    sign = np.sign((np.log(near["value"]) * near["y"]).sum())  # of a score better if higher: -1
    ax.plot(np.exp(x), np.exp(sign * curve.score(x)), color=ink, lw=1, label="parabola")
    least = np.exp(sign * curve.score(np.array([curve.vertex])))
    ring: dict[str, Any] = {"mfc": "none", "mec": ink, "ms": 9, "ls": "none", "label": "best"}
    ax.plot([np.exp(curve.vertex)], least, "o", **ring)


def best_rates(found: pd.DataFrame, ax: Axes) -> Axes:
    """Draws every best rate with its interval over parameters, and each setting's law.

    A rate at an edge of its grid is an open triangle that points to where the best may be.
    """
    settings = list(by_setting(found))
    inks = style.others(found["setting"], {}, style.FAMILIES)
    sizes = found["params"] if found["params"].gt(0).all() else found["gflops"]
    size = str(sizes.name)
    log_axis(ax.xaxis, sizes.min() / 1.6, sizes.max() * 1.6, decades=True)
    ends = found[["lr", "low", "high"]]
    log_axis(ax.yaxis, ends.min().min() / 1.4, ends.max().max() * 1.4)
    marks = []
    for setting, own in settings:
        draw_optima(ax, own, size, inks[setting])
        law = attempt("", partial(fit, own, size), [])
        marks.append(draw_law(ax, law, inks[setting], own, size))
    label(ax, marks, [name for name, _ in settings], [inks[name] for name, _ in settings])
    ax.set(xlabel=SIZES[size].capitalize(), ylabel=f"Best {RATE.lower()}")
    set_title(ax, "the best by size")
    return ax


def draw_optima(ax: Axes, own: pd.DataFrame, size: str, ink: str) -> None:
    inside = own[own["edge"].eq("")]
    ends = np.abs(inside[["low", "high"]].to_numpy(float).T - inside["lr"].to_numpy(float))
    look: dict[str, Any] = {"color": ink, "lw": 1, "capsize": 2}
    ax.errorbar(inside[size], inside["lr"], np.nan_to_num(ends), fmt="o", **look)
    for _, row in own[own["edge"].ne("")].iterrows():
        marker = "v" if row["edge"] == LOWEST else "^"
        ax.plot([row[size]], [row["lr"]], marker, color=ink, mfc="none", label="edge")


def draw_law(ax: Axes, law: RateLaw | None, ink: str, own: pd.DataFrame, size: str) -> np.ndarray:
    """Draws a law over its sizes, at the middle of its batches; returns what its name is at."""
    if law is None or size not in law.axes:
        return own[[size, "lr"]].to_numpy(float)
    x = np.geomspace(law.rows[size].min(), law.rows[size].max(), 20)
    y = np.exp(law.fit.params[0] + law.exponent(size)[0] * (np.log(x) - law.centre[0]))
    ax.plot(x, y, color=ink, lw=1, label="law")
    return np.column_stack([x, y])
