"""Panels of statistics: correlations of all metrics, predictions beside the truth, residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import fits, style
from analysis.axes import compute_axis, label_score, log_axis
from analysis.correlation import correlation
from analysis.curves import draw_curves
from analysis.figures import GFLOPS
from analysis.forms import curve
from analysis.grid import final, grid
from analysis.prediction import leave_one_out, mean_error
from analysis.seeds import SERIES
from analysis.table import METRICS, TableError, listed

# Two tones of the intervals that do and do not hold the truth.
HELD, MISSED = style.SOFT, style.ACCENT


def figure_12(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draws every metric's correlation with log Gflops: printed hollow, computed filled.

    Raises:
        TableError: no metric has 3 models at one step, and none is printed.
    """
    names = [name for name in METRICS if table["metric"].isin([name, f"pearson_{name}"]).any()]
    drawn = [name for name in names if draw_correlation(ax, table, name, names.index(name))]
    if not drawn:
        raise TableError(
            "no metric has 3 models at one step, and no correlation is printed: train and score"
            " more"
        )
    last = max(names.index(name) for name in drawn)
    features = listed(table.loc[table["metric"].isin(drawn), "features"])
    through = "" if features in ("inception", "nothing") else f"\nscores through {features}"
    ax.axvline(0, color=style.SOFT, lw=0.8, zorder=0, label="_zero")
    ax.set(
        xlabel=style.literal(f"Pearson correlation with log Gflops{through}"), xlim=(-1.08, 1.08)
    )
    ax.set_yticks(range(len(names)), [METRICS[name] for name in names])
    ax.set_ylim(last + 0.6, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    return ax


def draw_correlation(ax: Axes, table: pd.DataFrame, name: str, place: int) -> bool:
    """Draws one row of Figure 12: the printed correlation, and that of at least 3 models."""
    printed = table.loc[table["metric"] == f"pearson_{name}", "value"]
    texts = set(ax.get_legend_handles_labels()[1])
    if len(printed):
        hollow: dict[str, Any] = {"mfc": "white", "color": style.INK, "ls": "none", "zorder": 4}
        text = "printed in the paper"
        shown = text if text not in texts else f"_{name}, printed"
        ax.plot(printed, [place - 0.15] * len(printed), "o", **hollow, label=shown)
    try:
        rows = correlation(table, name, statistics=["pearson"])
    except TableError:
        return len(printed) > 0
    for i, (_, row) in enumerate(rows.iterrows()):
        height, colour = place + 0.15 * bool(len(printed)) + 0.2 * i, style.ACCENT
        text = f"computed, n = {row['n']}, with its 95 % interval"
        shown = text if text not in texts else f"_{name}, n = {row['n']}"
        ends = [row["low"], row["high"]]
        ax.plot(ends, [height] * 2, color=colour, label=f"_{name}, 95 % interval", zorder=3)
        ax.plot([row["value"]], [height], "o", color=colour, label=shown, zorder=4)
    return True


def predicted(table: pd.DataFrame, ax: Axes, law: str = fits.GFLOPS, metric: str = "fid") -> Axes:
    """Draws each model's score, and the 95 % interval that the law gives it from all the others.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    every = grid(table, metric)
    rows = leave_one_out(table, metric)
    low, high = rows[["low", "truth"]].min().min(), rows[["high", "truth"]].max().max()
    rows = rows[rows["law"] == law].merge(
        final(table, metric)[["model", "gflops", "size", "patch"]], on="model"
    )
    if rows.empty:
        raise TableError(f"too few models for the law in {law}: train and score more")
    held = rows["truth"].between(rows["low"], rows["high"])
    compute_axis(ax, rows["gflops"])
    log_axis(ax.yaxis, low / 1.15, high * 1.15)
    for inside, colour, text in ((True, HELD, "holds"), (False, MISSED, "misses")):
        part = rows[held == inside]
        ax.vlines(
            part["gflops"],
            part["low"],
            part["high"],
            color=colour,
            alpha=0.35,
            lw=4,
            label=f"interval {text} the score",
        )
    ax.plot(rows["gflops"], rows["prediction"], "_", color=style.INK, ms=7, label="predicted")
    looks = point_rows(rows.rename(columns={"truth": "value"}), every)
    draw_curves(ax, looks, "gflops", every, linestyle="none")
    ax.set(xlabel=GFLOPS)
    label_score(ax, every)
    ax.set_title(
        f"{law}\n{held.sum()} of {len(rows)} held, typical error {mean_error(rows):.0%}", loc="left"
    )
    return ax


def residuals(table: pd.DataFrame, ax: Axes, law: str = fits.GFLOPS, metric: str = "fid") -> Axes:
    """Draws each model's score by the law's, fitted to all models of its family.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    every = grid(table, metric)
    rows = fits.one_study(final(table, metric))
    families = [fits.complete(part, law) for _, part in rows.groupby("family", sort=False)]
    fitted = [part for part in families if fits.is_fitted(part, law)]
    if not fitted:
        fits.fit_law(max(families, key=len), law)  # says how many models it needs
    found = [fits.fit_law(part, law) for part in fitted]
    rows = pd.concat(fitted).assign(value=10 ** np.concatenate([fit.resid for fit in found]))
    shown = point_rows(rows, every)
    compute_axis(ax, rows["gflops"])
    reach = 1.15 * float(10 ** np.abs(np.log10(rows["value"])).max())
    log_axis(ax.yaxis, 1 / reach, reach)
    ax.axhline(1, color=style.SOFT, lw=0.8, zorder=0, label="the law")
    draw_curves(ax, shown, "gflops", every, linestyle="none")
    spread = ", ".join(f"{np.expm1(np.log(10) * np.sqrt(fit.scale)):.0%}" for fit in found)
    ax.set(xlabel=GFLOPS, ylabel="Score / what the law says")
    ax.set_title(f"{law}\nspread {spread}", loc="left")
    return ax


def specification(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws what each form of law predicts of the largest model from the others, and the truth.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    found, target = forms_of_the_largest(table, metric)
    draw_forms(ax, found, "prediction", found["prediction"])
    truth = float(target["value"].iloc[0])
    ax.axhline(truth, color=style.INK, lw=0.8, zorder=0, label="the score")
    log_axis(ax.yaxis, min(found["prediction"].min(), truth) / 1.1, found["prediction"].max() * 1.1)
    ax.set(xlabel="", xlim=(0, len(found) + 1))
    label_score(ax, grid(table, metric))
    ax.set_title(f"{target['model'].iloc[0]} from the others", loc="left")
    ax.legend(loc="upper left")
    return ax


def specification_terms(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws which terms each form has, in the order of `specification`.

    Raises:
        TableError: too few models, several studies, or values without a logarithm.
    """
    found, _ = forms_of_the_largest(table, metric)
    terms = [str(name) for name in found if name not in ("prediction", "error", "good")]
    for place, term in enumerate(terms):
        draw_forms(ax, found[found[term]], f"_{term}", place)
    ax.set_yticks(range(len(terms)), terms)
    ax.set_ylim(len(terms) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel=f"{len(found)} forms, by their prediction", xlim=(0, len(found) + 1))
    return ax


def forms_of_the_largest(table: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the specification curve of the largest model of the largest family, and its row."""
    rows = fits.positive(fits.one_study(final(table, metric)))
    family = rows[rows["family"].eq(rows["family"].value_counts().index[0])]
    return curve(fits.complete(family.iloc[:-1], fits.PRODUCT), family.tail(1)), family.tail(1)


def draw_forms(ax: Axes, found: pd.DataFrame, name: str, height: Any) -> None:
    """Draws a dot per form at its rank: those that do as well as the best stand out."""
    heights = pd.Series(height, found.index)
    for good, colour, text in ((True, MISSED, "good"), (False, HELD, "worse")):
        part = found.index[found["good"] == good]
        shown = f"_{name}" if name.startswith("_") else f"{text} by leave-one-out"
        ax.plot(part + 1, heights[part], "o", color=colour, ms=4, label=shown)


def point_rows(rows: pd.DataFrame, every: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of models as `draw_curves` takes them: their statistics have no recipe."""
    absent = {name: "" for name in SERIES if name not in rows}
    rows = rows.drop(columns=["low", "high", "seeds"], errors="ignore")
    return rows.assign(complete=True, recipe="", source=every["source"].iloc[0], **absent)


def further(table: pd.DataFrame, ax: Axes, panel: Callable[..., Axes], metric: str) -> Axes:
    """Draws a further metric with the panel.

    Raises:
        TableError: fewer than 3 models have it; of one or two it tells nothing.
    """
    count = grid(table, metric)["model"].nunique()
    if count < 3:
        raise TableError(f"{METRICS[metric]} is of {count} models, not of 3: score more")
    return panel(table, ax, metric=metric)
