"""The paper's figures as panels, (table, ax) → ax, with the caller's axes and no state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis import style
from analysis.correlation import correlation, correlation_text
from analysis.curves import (
    draw_bubbles,
    draw_curves,
    score_label,
    set_score_limits,
    short_names,
)
from analysis.grid import grid, one_axis
from analysis.samples import Samples
from analysis.table import METRICS, RUN, TableError, listed, metric_name

GFLOPS = "Model compute (Gflops, multiply-adds of one image)"
COMPUTE = "Training compute (Gflops · batch · steps · 3)"
SAMPLING = "Sampling compute (Tflops, multiply-adds of one image)"
CONDITIONINGS = {
    "in-context": "#56a8dd",
    "cross-attention": "#00936b",
    "adaLN": "#e08e00",
    "adaLN-Zero": "#c8321f",
}
# Protocols of Figure 10 are alike in these and differ in the number of sampling steps.
ONE_SAMPLER = ("study data features n reference sampler guidance decoder weights step").split()
# Bins of a drawn loss curve: few enough that 5 million rows become 1,800 points and the noise of a
# step is gone.
BINS = 150


def figure_02_left(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws the last score of every model by size; a bubble's area is the model's Gflops."""
    rows = at_last_step(grid(table, metric)).sort_values("gflops", ascending=False)
    order = {size: place for place, size in enumerate(style.PALETTE)}
    rows = rows.assign(x=[float(order.get(size, len(order))) for size in rows["size"]])
    ax.set(xlabel="Model size (area: Gflops)", ylabel=score_label(rows))
    ax.set_xlim(-0.5, len(order) - 0.2)
    ax.set_xticks(range(len(order)), list(order))
    draw_bubbles(ax, rows, short_names(rows))
    return ax


def figure_02_right(
    table: pd.DataFrame, ax: Axes, metric: str = "fid", data: str = "imagenet256"
) -> Axes:
    """Draws guided models against the U-Nets whose Gflops are known."""
    rows = table[(table["metric"] == metric) & (table["data"] == data) & table["gflops"].gt(0)]
    guided = (rows["guidance"] > 1) & rows["guidance_channels"].eq(3)
    rows = rows[(rows["size"] == "") | guided]
    best = rows.sort_values("value").drop_duplicates(["study", "model"])
    if best["model"].nunique() < 2:
        raise TableError(
            f"no guided model and no U-Net with Gflops on {data}: score a guided protocol"
        )
    best = best.assign(x=best["gflops"])
    ax.margins(0.15)
    names = [
        f"{model}-G" if guidance > 1 and "-G" not in model else model
        for model, guidance in zip(best["model"], best["guidance"], strict=True)
    ]
    draw_bubbles(ax, best, names)
    style.log_axis(ax)
    ax.set(xlabel=GFLOPS, ylabel=score_label(best))
    return ax


def figure_05(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over steps, one curve per conditioning of the largest model with several."""
    sized = table[table["size"].ne("")]
    several = sized.groupby("model").filter(lambda rows: rows["conditioning"].nunique() > 1)
    if several.empty:
        conditionings = listed(table["conditioning"])
        raise TableError(f"one conditioning only ({conditionings}): sweep several for one model")
    model = several.sort_values("gflops")["model"].iloc[-1]
    rows = until_last_step(grid(several[several["model"] == model], metric, unit="conditioning"))
    set_score_limits(ax, rows, right=1.3)
    draw_curves(ax, rows, "step", palette=CONDITIONINGS)
    ax.set(xlabel="Training steps", ylabel=score_label(rows))
    ax.set_title(style.literal(model), loc="left")
    return ax


def figure_06(table: pd.DataFrame, ax: Axes, metric: str = "fid", **only: Any) -> Axes:
    """Draws a score over steps; `size=` or `patch=` selects the curves of the panel."""
    rows = until_last_step(grid(table, metric))
    set_score_limits(ax, rows, right=1.2)
    draw_curves(ax, select(rows, only), "step")
    ax.set(xlabel="Training steps", ylabel=score_label(rows))
    ax.set_title(panel_title(only), loc="left")
    return ax


def figure_07(samples: Samples, ax: Axes) -> Axes:
    """Draws the same noise and labels through every model: a row per model, a column per label."""
    # A light frame around each image keeps neighbours apart on dark ones.
    frame = [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)]
    images = np.pad(samples["images"], frame, constant_values=255)
    rows, columns, height, width, channels = images.shape
    mosaic = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    shown = mosaic if channels == 3 else mosaic[..., 0]
    ax.imshow(shown, cmap="gray", interpolation="nearest")
    models = [style.literal(str(model)) for model in samples["model"]]
    labels = [str(label) for label in samples["labels"]]
    ax.set_yticks((np.arange(rows) + 0.5) * height - 0.5, models)
    ax.set_xticks((np.arange(columns) + 0.5) * width - 0.5, labels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="Label")
    ax.set_title(f"Step {int(samples['step']):,}", loc="left")
    return ax


def figure_08(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over the model's Gflops at the last step, with the correlation."""
    rows = at_last_step(grid(table, metric))
    draw_curves(ax, rows, "gflops", log=True, linestyle="none")
    ax.set(xlabel=GFLOPS, ylabel=score_label(rows))
    ax.set_title(pearson_title(table, metric), loc="left")
    return ax


def figure_09(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over training compute: which model makes the most of a budget."""
    rows = grid(table, metric)
    draw_curves(ax, rows, "compute", log=True)
    ax.set(xlabel=COMPUTE, ylabel=score_label(rows))
    return ax


def figure_10(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over sampling compute, of protocols that differ in sampling steps alone."""
    scored = table["size"].ne("") & table["sampling_steps"].gt(0) & table["gflops"].gt(0)
    rows = table[(table["metric"] == metric) & scored]
    rows = rows[rows["source"].eq("measured") | rows["source"].str.contains("Figure|Table")]
    steps = rows.groupby(ONE_SAMPLER, dropna=False)["sampling_steps"].transform("nunique")
    rows = one_axis(rows[steps.gt(1) & steps.eq(steps.max())], ONE_SAMPLER)
    if rows.empty:
        counts = listed(table["sampling_steps"].dropna())
        raise TableError(f"one number of sampling steps only ({counts}): score others")
    rows = rows.assign(sampling=rows["gflops"] * rows["sampling_steps"] / 1000)
    rows = rows.sort_values(["model", "sampling"])
    draw_curves(ax, rows, "sampling", log=True)
    ax.set(xlabel=SAMPLING, ylabel=score_label(rows))
    ax.set_title(f"{listed(rows['sampling_steps'].sort_values())} sampling steps", loc="left")
    return ax


def figure_12(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draws every metric's correlation with log Gflops, printed ones hollow, with its interval."""
    names = [name for name in METRICS if table["metric"].isin([name, f"pearson_{name}"]).any()]
    for place, name in enumerate(names):
        draw_correlation(ax, table, name, place)
    if not ax.lines:
        raise TableError(
            "no metric has 3 models at one step, and no correlation is published: train and score"
            " more"
        )
    ax.set(xlabel="Pearson correlation with log Gflops", xlim=(-1.08, 1.08))
    ax.set(ylim=(len(names) - 0.5, -0.5), yticks=[])
    return ax


def draw_correlation(ax: Axes, table: pd.DataFrame, name: str, place: int) -> None:
    """Draws one row of Figure 12: the printed correlation, and the one of at least 3 models."""
    printed = table.loc[table["metric"] == f"pearson_{name}", "value"]
    dots: dict[str, Any] = {"mfc": "white", "color": style.INK, "label": f"{name}, printed"}
    ax.plot(printed, [place] * len(printed), "o", **dots)
    features = table.loc[table["metric"].isin([name, f"pearson_{name}"]), "features"].iloc[0]
    centred: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": 9,
        "backgroundcolor": "white",
    }
    ax.text(0, place, style.literal(metric_name(name, features)), **centred)
    if table.loc[table["metric"].eq(name) & table["size"].ne(""), "model"].nunique() < 3:
        return
    row = correlation(table, name, statistics=["pearson"]).iloc[0]
    colour, heights = style.PALETTE["B"], [place, place]
    ax.plot([row["low"], row["high"]], heights, color=colour, label=f"{name}, 95 % interval")
    ax.plot([row["value"]], [place], "o", ms=3, color=colour, label=f"{name}, n = {row['n']}")


def figure_13(log: pd.DataFrame, ax: Axes, **only: Any) -> Axes:
    """Draws the smoothed training loss over steps.

    The y limits leave out the first twentieth: a fall from 1 would flatten all the rest.
    """
    rows = binned(select(log, only))
    late = rows.loc[rows["step"] > rows["step"].max() / 20, "loss"]
    ax.set_ylim(0.98 * late.min(), 1.02 * late.max())
    draw_curves(ax, rows.rename(columns={"loss": "value"}), "step", marker="")
    ax.set(xlabel="Training steps", ylabel="Training loss")
    ax.set_title(panel_title(only), loc="left")
    return ax


def binned(log: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Averages step and loss per curve and bin of steps.

    Sums are numpy's, because a groupby of 5 million rows takes seconds.
    """
    by = ["study", "run", "model", "size", "patch", "seed"]
    curve = log.groupby(by, observed=True, dropna=False, sort=False).ngroup().to_numpy()
    step, loss = log["step"].to_numpy(), log["loss"].to_numpy()
    width = max(step.max() / bins, 1)
    places = curve * (bins + 1) + (step / width).astype(np.int64)
    count, loss_sum, step_sum = (np.bincount(places, weights) for weights in (None, loss, step))
    filled = np.flatnonzero(count)
    first = np.unique(curve, return_index=True)[1]
    rows = log.iloc[first[filled // (bins + 1)]][by].reset_index(drop=True)
    counts = count[filled]
    return rows.assign(step=step_sum[filled] / counts, loss=loss_sum[filled] / counts)


def panel_title(only: Mapping[str, Any]) -> str:
    return ", ".join(f"{field.capitalize()} {value}" for field, value in only.items())


def at_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns every run at the last step, and incomplete runs at their own."""
    return rows[rows["last"] | ~rows["complete"]].groupby(RUN, dropna=False).tail(1)


def until_last_step(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows up to the last step: the paper trained one model 17 times longer."""
    return rows[rows["step"].le(float(rows.loc[rows["last"], "step"].max()))]


def select(rows: pd.DataFrame, only: Mapping[str, Any]) -> pd.DataFrame:
    """Returns the rows with these values.

    Raises:
        TableError: there are none.
    """
    for field, value in only.items():
        rows = rows[rows[field] == value]
    if rows.empty:
        wanted = ", ".join(f"{field} {value}" for field, value in only.items())
        raise TableError(f"no model of {wanted} in the table: train and score one")
    return rows


def pearson_title(table: pd.DataFrame, metric: str) -> str:
    """States Pearson's correlation of each study, or why there is none: points are drawn still."""
    try:
        rows = correlation(table, metric, statistics=["pearson"])
    except TableError as reason:
        return style.literal(str(reason).split(":")[0].capitalize())
    return "\n".join(correlation_text(part) for _, part in rows.groupby("study"))
