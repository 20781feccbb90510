"""Lines of a score in log compute behind its points: with bands, by patch, and by family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from statsmodels.regression.linear_model import OLS

from analysis import fits, style
from analysis.correlation import MINUS
from analysis.families import AXES, fit_lines
from analysis.families_rows import leading, multiple_text
from analysis.rows import attempt


def draw_line(ax: Axes, rows: pd.DataFrame, name: str) -> str:
    """Draws the least-squares line of a score in log Gflops with its band; returns its slope.

    The score is in logs where its axis is. The slope is what ten times the Gflops do.
    """
    logs = ax.get_yscale() == "log"
    values = np.log10(rows["value"]) if logs else rows["value"]
    fit = OLS(values.to_numpy(), design(rows["gflops"])).fit()
    x = np.geomspace(rows["gflops"].min(), rows["gflops"].max(), 40)
    frame = fit.get_prediction(design(x)).summary_frame(alpha=0.05)
    mean, low, high = (
        (10 ** frame[column] if logs else frame[column]).to_numpy()
        for column in ("mean", "mean_ci_lower", "mean_ci_upper")
    )
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, mean[[0, -1]].min()), max(top, mean[[0, -1]].max()))
    ax.plot(x, mean, color=style.SOFT, lw=1, label="line", zorder=1)
    ax.fill_between(x, low, high, color=style.SOFT, alpha=0.15, lw=0, label="95 % band", zorder=0)
    slope, (least, most) = fit.params[1], fit.conf_int()[1]
    if logs:
        text = f"10 × Gflops: {name} × {10**slope:.2f} [{10**least:.2f}, {10**most:.2f}]"
        return text + draw_patches(ax, rows)
    text = f"10 × Gflops: {name} {slope:+.2g} [{least:+.2g}, {most:+.2g}]"
    return text.replace("-", MINUS)


def draw_patches(ax: Axes, rows: pd.DataFrame) -> str:
    """Draws a line per patch where these refute the one line; returns the line that says so."""
    test = fits.misspecification(rows, fits.GFLOPS)
    if not test["p"] < 0.01 or test["alternative"] != "a line per patch":
        return ""
    for patch, part in rows.groupby("patch"):
        if part["gflops"].nunique() > 1:
            slope, start = np.polyfit(np.log10(part["gflops"]), np.log10(part["value"]), 1)
            x = np.array([part["gflops"].min(), part["gflops"].max()])
            dashes = style.others(rows["patch"], style.DASHES, style.OTHER_DASHES)[patch]
            soft: dict[str, Any] = {"color": style.SOFT, "lw": 0.8, "ls": dashes, "zorder": 1}
            ax.plot(x, 10**start * x**slope, label=f"patch {patch:g}", **soft)
    return f"\nrefuted: a line per patch, p = {test['p']:.1g}"


def design(gflops: Any) -> np.ndarray:
    return np.column_stack([np.ones(len(gflops)), np.log10(gflops)])


def draw_families(
    ax: Axes, models: pd.DataFrame, inks: Mapping[Any, str], axis: str, metric: str
) -> str:
    """Draws the line of each family in its colour, with its band; returns which leads.

    The noise behind the bands is that of all families, and so is the slope where too few of them
    have one of their own.

    Raises:
        TableError: too few families or models.
    """
    own_slopes = attempt("", partial(fit_lines, models, axis, parallel=False), [])
    lines, limits = own_slopes or fit_lines(models, axis, parallel=True), ax.get_ylim()
    for family in lines.families:
        own = models.loc[models["family"] == family, AXES[axis]]
        x = np.geomspace(own.min(), own.max(), 20)
        found = lines.fit.get_prediction(lines.design(family, x)).summary_frame(alpha=0.05)
        mean, low, high = (10 ** found[name] for name in ("mean", "mean_ci_lower", "mean_ci_upper"))
        look: dict[str, Any] = {"color": inks[family], "zorder": 1}
        ax.plot(x, mean, lw=1, label=f"{family}, line", **look)
        ax.fill_between(x, low, high, alpha=0.1, lw=0, label=f"{family}, 95 % band", **look)
    ax.set_ylim(limits)
    pair = leading(models, axis, metric)
    return f"{pair['other']} leads: the next needs {multiple_text(pair)}"
