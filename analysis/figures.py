"""The paper's figures as panels, (table, ax) → ax, with the caller's axes and no state of their own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colors as mcolors
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from analysis import fits, style
from analysis.tables import METRICS, RUN, axis_label, grid, listed, metric_name, one_axis

GFLOPS = "Model compute (Gflops, multiply-adds of one image)"
COMPUTE = "Training compute (Gflops · batch · steps · 3)"
SAMPLING = "Sampling compute (Tflops, multiply-adds of one image)"
CONDITIONINGS = {
    "in-context": "#56a8dd",
    "cross-attention": "#00936b",
    "adaLN": "#e08e00",
    "adaLN-Zero": "#c8321f",
}
# Bins of a drawn loss curve: few enough that 5 million rows become 1,800 points and the noise of a step is gone.
BINS = 150


def figure_02_left(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """The last score of every model by size; the area of a bubble is the model's Gflops."""
    rows = _last(grid(table, metric)).sort_values("gflops", ascending=False)
    order = {size: place for place, size in enumerate(style.PALETTE)}
    rows = rows.assign(x=[float(order.get(size, len(order))) for size in rows["size"]])
    ax.set(xlabel="Model size (area: Gflops)", ylabel=_score(rows), xlim=(-0.5, len(order) - 0.2))
    ax.set_xticks(range(len(order)), list(order))
    _bubbles(ax, rows, _short(rows))
    return ax


def figure_02_right(
    table: pd.DataFrame, ax: Axes, metric: str = "fid", data: str = "imagenet256"
) -> Axes:
    """Guided models against the U-Nets whose Gflops are known."""
    rows = table[(table["metric"] == metric) & (table["data"] == data) & table["gflops"].gt(0)]
    rows = rows[(rows["size"] == "") | (rows["guidance"] > 1) & rows["guidance_channels"].eq(3)]
    best = rows.sort_values("value").drop_duplicates(["study", "model"])
    if best["model"].nunique() < 2:
        raise ValueError(
            f"no guided model and no U-Net with Gflops on {data}: score a guided protocol"
        )
    best = best.assign(x=best["gflops"])
    ax.margins(0.15)
    guided = [g > 1 and "-G" not in m for m, g in zip(best["model"], best["guidance"], strict=True)]
    _bubbles(ax, best, [f"{m}-G" if g else m for m, g in zip(best["model"], guided, strict=True)])
    style.log_axis(ax)
    ax.set(xlabel=GFLOPS, ylabel=_score(best))
    return ax


def figure_05(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """A score over training steps, one curve per conditioning block of the largest model that has several."""
    several = (
        table[table["size"].ne("")]
        .groupby("model")
        .filter(lambda part: part["conditioning"].nunique() > 1)
    )
    if several.empty:
        raise ValueError(
            f"one conditioning only ({listed(table['conditioning'])}): sweep several for one model"
        )
    model = several.sort_values("gflops")["model"].iloc[-1]
    rows = _until_last(grid(several[several["model"] == model], metric, unit="conditioning"))
    ax.set(xlim=(0, 1.3 * rows["step"].max()), ylim=(0, 1.08 * rows["value"].max()))
    _curves(ax, rows, "step", palette=CONDITIONINGS)
    ax.set(xlabel="Training steps", ylabel=_score(rows))
    ax.set_title(model, loc="left")
    return ax


def figure_06(table: pd.DataFrame, ax: Axes, metric: str = "fid", **only: Any) -> Axes:
    """A score over training steps; `size=` or `patch=` says which curves share the panel."""
    rows = _until_last(grid(table, metric))
    ax.set(xlim=(0, 1.2 * rows["step"].max()), ylim=(0, 1.08 * rows["value"].max()))
    _curves(ax, _only(rows, only), "step")
    ax.set(xlabel="Training steps", ylabel=_score(rows))
    ax.set_title(_title(only), loc="left")
    return ax


def figure_07(samples: Mapping[str, np.ndarray], ax: Axes) -> Axes:
    """The same noise and labels through every model: a row is a model, a column a label."""
    # A light frame around each image keeps neighbours apart on dark ones.
    images = np.pad(
        samples["images"], [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)], constant_values=255
    )
    rows, columns, height, width, channels = images.shape
    mosaic = images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    ax.imshow(mosaic if channels == 3 else mosaic[..., 0], cmap="gray", interpolation="nearest")
    ax.set_yticks((np.arange(rows) + 0.5) * height - 0.5, list(samples["model"]))
    ax.set_xticks(
        (np.arange(columns) + 0.5) * width - 0.5, [str(label) for label in samples["labels"]]
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="Label")
    ax.set_title(f"Step {int(samples['step']):,}", loc="left")
    return ax


def figure_08(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """A score over the model's Gflops at the last step, with the correlation."""
    rows = _last(grid(table, metric))
    _curves(ax, rows, "gflops", log=True, linestyle="none")
    ax.set(xlabel=GFLOPS, ylabel=_score(rows))
    ax.set_title(_pearson(table, metric), loc="left")
    return ax


def figure_09(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """A score over training compute: which model makes the most of a budget."""
    rows = grid(table, metric)
    _curves(ax, rows, "compute", log=True)
    ax.set(xlabel=COMPUTE, ylabel=_score(rows))
    return ax


def figure_10(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """A score over sampling compute: protocols that differ in the number of sampling steps alone."""
    alike = [
        "study",
        "data",
        "features",
        "n",
        "reference",
        "sampler",
        "guidance",
        "decoder",
        "weights",
        "step",
    ]
    rows = table[(table["metric"] == metric) & table["size"].ne("") & table["sampling_steps"].gt(0)]
    rows = rows[rows["source"].eq("measured") | rows["source"].str.contains("Figure|Table")]
    steps = rows.groupby(alike, dropna=False)["sampling_steps"].transform("nunique")
    rows = one_axis(rows[steps.gt(1) & steps.eq(steps.max())], alike)
    if rows.empty:
        raise ValueError(
            f"one number of sampling steps only ({listed(table['sampling_steps'].dropna())}): score others"
        )
    rows = rows.assign(sampling=rows["gflops"] * rows["sampling_steps"] / 1000).sort_values(
        ["model", "sampling"]
    )
    _curves(ax, rows, "sampling", log=True)
    ax.set(xlabel=SAMPLING, ylabel=_score(rows))
    ax.set_title(f"{listed(rows['sampling_steps'].sort_values())} sampling steps", loc="left")
    return ax


def figure_12(table: pd.DataFrame, ax: Axes) -> Axes:
    """Every metric's correlation with log Gflops: with its interval where it can be computed, hollow as printed."""
    names = [name for name in METRICS if table["metric"].isin([name, f"pearson_{name}"]).any()]
    for place, name in enumerate(names):
        printed = table.loc[table["metric"] == f"pearson_{name}", "value"]
        ax.plot(
            printed,
            [place] * len(printed),
            "o",
            mfc="white",
            color=style.INK,
            label=f"{name}, printed",
        )
        features = table.loc[table["metric"].isin([name, f"pearson_{name}"]), "features"].iloc[0]
        ax.text(
            0,
            place,
            metric_name(name, features),
            ha="center",
            va="center",
            fontsize=9,
            backgroundcolor="white",
        )
        if table.loc[table["metric"].eq(name) & table["size"].ne(""), "model"].nunique() < 3:
            continue
        row = fits.correlation(table, name, statistics=["pearson"]).iloc[0]
        ax.plot(
            [row["low"], row["high"]],
            [place, place],
            color=style.PALETTE["B"],
            label=f"{name}, 95 % interval",
        )
        ax.plot(
            [row["value"]],
            [place],
            "o",
            ms=3,
            color=style.PALETTE["B"],
            label=f"{name}, n = {row['n']}",
        )
    if not ax.lines:
        raise ValueError(
            "no metric has 3 models at one step, and no correlation is published: train and score more"
        )
    ax.set(
        xlabel="Pearson correlation with log Gflops",
        xlim=(-1.08, 1.08),
        ylim=(len(names) - 0.5, -0.5),
        yticks=[],
    )
    return ax


def figure_13(log: pd.DataFrame, ax: Axes, **only: Any) -> Axes:
    """Training loss over steps, smoothed; the first twentieth, a fall from 1, would flatten all the rest."""
    rows = binned(_only(log, only))
    late = rows.loc[rows["step"] > rows["step"].max() / 20, "loss"]
    ax.set_ylim(0.98 * late.min(), 1.02 * late.max())
    _curves(ax, rows.rename(columns={"loss": "value"}), "step", marker="")
    ax.set(xlabel="Training steps", ylabel="Training loss")
    ax.set_title(_title(only), loc="left")
    return ax


def binned(log: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """One row per curve and bin of steps; sums by numpy, because a groupby of 5 million rows takes seconds."""
    by = ["study", "run", "model", "size", "patch", "seed"]
    curve = log.groupby(by, observed=True, dropna=False, sort=False).ngroup().to_numpy()
    step, loss = log["step"].to_numpy(), log["loss"].to_numpy()
    width = max(step.max() / bins, 1)
    cell = curve * (bins + 1) + (step / width).astype(np.int64)
    count, total, at = (np.bincount(cell, weights) for weights in (None, loss, step))
    full = np.flatnonzero(count)
    first = np.unique(curve, return_index=True)[1]
    rows = log.iloc[first[full // (bins + 1)]][by].reset_index(drop=True)
    return rows.assign(step=at[full] / count[full], loss=total[full] / count[full])


def _curves(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    log: bool = False,
    palette: Mapping[str, str] | None = None,
    **how: Any,
) -> None:
    """One line per run, and a label at the end of each model's, or, with a palette, of each conditioning's."""
    for _, run in rows.groupby(
        [name for name in RUN if name in rows], sort=False, dropna=False, observed=True
    ):
        own = {"color": palette.get(run["conditioning"].iloc[0], style.OTHER)} if palette else {}
        line = {**style.look(run.iloc[0]), **own, **how}
        ax.plot(run[x], run["value"], **line, markeredgecolor=line["color"])
    ends = rows.groupby(
        ["study", "model", "conditioning"] if palette else ["study", "model"], observed=True
    ).tail(1)
    ax.margins(x=0.1, y=0.1)
    (style.log_axis if log else _plain_axis)(ax)
    texts = list(ends["conditioning"]) if palette else _short(ends)
    drawn = {line.get_label(): line.get_color() for line in ax.lines}
    colours = [
        palette.get(text, style.OTHER) if palette else drawn[model]
        for text, model in zip(texts, ends["model"], strict=True)
    ]
    style.label(ax, ends[x], ends["value"], texts, colours)


def _bubbles(ax: Axes, rows: pd.DataFrame, texts: list[str]) -> None:
    """Areas in proportion to Gflops, the largest 900 square points."""
    area = 900 * rows["gflops"] / rows["gflops"].max()
    ax.margins(x=0.3, y=0.2)
    for (_, row), size in zip(rows.iterrows(), area, strict=True):
        edge = style.look(row)["color"]
        face = mcolors.to_rgba(edge, 0.85 if row["source"] == "measured" else 0.18)
        ax.scatter(
            row["x"], row["value"], size, [face], edgecolors=edge, linewidths=1, label=row["model"]
        )
    style.label(ax, rows["x"], rows["value"], texts, [style.INK] * len(rows), np.sqrt(area / np.pi))


def _plain_axis(ax: Axes) -> None:
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def _score(rows: pd.DataFrame) -> str:
    """The axis label, on two lines where one would be longer than a panel is high."""
    return axis_label(rows).replace(", N", ",\nN")


def _short(rows: pd.DataFrame) -> list[str]:
    """'XL/2' for a model of a series: beside its point the family's name says nothing new."""
    return [f"{size}/{patch:g}" for size, patch in zip(rows["size"], rows["patch"], strict=True)]


def _title(only: Mapping[str, Any]) -> str:
    return ", ".join(f"{field.capitalize()} {value}" for field, value in only.items())


def _last(rows: pd.DataFrame) -> pd.DataFrame:
    """Every run at the last step, and those that have not come so far at their own."""
    return rows[rows["last"] | ~rows["complete"]].groupby(RUN, dropna=False).tail(1)


def _until_last(rows: pd.DataFrame) -> pd.DataFrame:
    """Up to the step at which the models are compared: the paper trained one of them 17 times longer."""
    return rows[rows["step"].le(float(rows.loc[rows["last"], "step"].max()))]


def _only(rows: pd.DataFrame, only: Mapping[str, Any]) -> pd.DataFrame:
    for field, value in only.items():
        rows = rows[rows[field] == value]
    if rows.empty:
        raise ValueError(f"no model of {_title(only).lower()} in the table: train and score one")
    return rows


def _pearson(table: pd.DataFrame, metric: str) -> str:
    try:
        found = fits.correlation(table, metric, statistics=["pearson"])
    except ValueError as reason:  # the points are drawn all the same
        return str(reason).split(":")[0].capitalize()
    return "\n".join(fits.in_words(part) for _, part in found.groupby("study"))
