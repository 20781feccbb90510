"""The paper's figures of scores as panels, (table, ax) → ax, with the caller's axes, no state."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from analysis import laws, style
from analysis.axes import (
    compute_axis,
    label_score,
    name_share,
    panel_title,
    score_axis,
    set_title,
    step_axis,
)
from analysis.compute import sampling_compute
from analysis.curves import (
    apart,
    at_last_step,
    draw_bubbles,
    draw_curves,
    names,
    select,
    until_last_step,
)
from analysis.families import models_of
from analysis.fitted_lines import draw_families, draw_line
from analysis.grid import grid, one_axis
from analysis.rows import attempt
from analysis.seeds import over_seeds
from analysis.table import METRICS, TableError, listed

GFLOPS = "Model compute (Gflops of one image)"
COMPUTE = "Training compute (Gflops · batch · steps · 3)"
SAMPLING = "Sampling compute (Tflops of one image)"
CONDITIONINGS = dict(
    zip(("in-context", "cross-attention", "adaLN", "adaLN-Zero"), style.ramp(4), strict=True)
)
# Protocols of Figure 10 are alike in these and differ in the number of sampling steps.
ONE_SAMPLER = ("study data features n reference sampler guidance decoder weights step").split()


def figure_02_left(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws the last score of every model by size; a bubble's area is the model's Gflops."""
    every = grid(apart(table, metric), metric)
    rows = over_seeds(at_last_step(every), "gflops").sort_values("gflops", ascending=False)
    column = rows["size"].where(rows["size"].ne(""), rows.get("family", "other"))
    largest = rows.groupby([rows["size"].eq(""), column])["gflops"].max()
    order = [
        name for _, name in largest.sort_values().sort_index(level=0, sort_remaining=False).index
    ]
    rows = rows.assign(x=[float(order.index(name)) for name in column])
    texts = names(rows, every)
    ax.set_xlim(-0.5, len(order) / (1 - name_share(ax, texts) / 2) - 0.5)
    ax.set_xticks(range(len(order)), [style.literal(name) for name in order])
    ax.set(xlabel="Model size (area: Gflops)")
    label_score(ax, every)
    score_axis(ax, rows["value"], "linear")
    draw_bubbles(ax, rows, texts, every)
    return ax


def figure_02_right(
    table: pd.DataFrame, ax: Axes, metric: str = "fid", data: str = "imagenet256"
) -> Axes:
    """Draws guided models against the U-Nets whose Gflops are known, each at its best.

    As in the paper the axis holds several protocols: a name has guidance and training steps.
    """
    rows = table[(table["metric"] == metric) & (table["data"] == data) & table["gflops"].gt(0)]
    guided = (rows["guidance"] > 1) & rows["guidance_channels"].eq(3)
    rows = rows[(rows["size"] == "") | guided]
    best = rows.sort_values("value").drop_duplicates(["study", "model"])
    if best["model"].nunique() < 2:
        raise TableError(
            f"no guided model and no U-Net with Gflops on {data}: score a guided protocol"
        )
    best = best.assign(x=best["gflops"], seeds=1)  # a point is one score
    compute_axis(ax, best["x"])
    score_axis(ax, best["value"], "linear")
    ax.set(xlabel=GFLOPS)
    label_score(ax, best)
    draw_bubbles(ax, best, [guided_name(row) for _, row in best.iterrows()])
    return ax


def guided_name(row: pd.Series) -> str:
    """Returns 'DiT-XL/2-G' and below it what is known: 'cfg 1.5, 7M steps'."""
    guided = row["guidance"] > 1
    name = f"{row['model']}-G" if guided and "-G" not in row["model"] else row["model"]
    known = [f"cfg {row['guidance']:g}"] if guided else []
    known += [f"{row['step'] / 1e6:g}M steps"] if row["step"] > 0 else []
    return f"{name}\n{', '.join(known)}" if known else name


def figure_05(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score by conditioning, of the largest model with several: over steps if it has them.

    Raises:
        TableError: one conditioning only.
    """
    several = table.groupby("model").filter(lambda rows: rows["conditioning"].nunique() > 1)
    several = several[several["gflops"].gt(0)]
    if several.empty:
        conditionings = listed(table["conditioning"])
        raise TableError(f"one conditioning only ({conditionings}): sweep several for one model")
    model = several.sort_values("gflops")["model"].iloc[-1]
    one = several[several["model"] == model]
    rows = until_last_step(grid(apart(one, metric, "conditioning"), metric, unit="conditioning"))
    inks = CONDITIONINGS | dict.fromkeys(
        set(rows["conditioning"]) - set(CONDITIONINGS), style.OTHER
    )
    label_score(ax, rows)
    ax.set_title(style.literal(model.split(", ")[0]), loc="left")
    if rows["step"].nunique() > 1:
        step_axis(ax, rows["step"], list(rows["conditioning"]))
        score_axis(ax, rows["value"])
        draw_curves(ax, rows, "step", texts="conditioning", inks=inks)
        return ax
    order = [name for name in inks if name in set(rows["conditioning"])]
    rows = rows.assign(place=[float(order.index(name)) for name in rows["conditioning"]])
    ax.set_xticks(range(len(order)), [style.literal(name) for name in order])
    ax.set(xlabel=f"Conditioning, step {rows['step'].iloc[0]:,.0f}", xlim=(-0.6, len(order) - 0.4))
    score_axis(ax, rows["value"], "linear")
    draw_curves(ax, rows, "place", texts="conditioning", inks=inks)
    return ax


def figure_06(table: pd.DataFrame, ax: Axes, metric: str = "fid", **only: Any) -> Axes:
    """Draws a score over steps; `size=` or `patch=` selects the curves of the panel.

    Raises:
        TableError: no such models, or none with scores at two steps.
    """
    every = until_last_step(grid(apart(table, metric), metric))
    rows = select(every, only)
    if every.groupby("model")["step"].nunique().max() < 2:
        raise TableError(f"one step of every model ({listed(every['step'])}): score more of them")
    step_axis(ax, every["step"], names(every, every))
    score_axis(ax, every["value"])
    label_score(ax, every)
    ax.set_title(panel_title(only), loc="left")
    draw_curves(ax, rows, "step", every, noise=every)
    return ax


def figure_08(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over the model's Gflops at the last step, with the line through all models.

    A bar is the 95 % interval of a model's mean over seeds, the band that of the line. Of several
    families each has its line, the noise that of all.
    """
    every = grid(apart(table, metric), metric)
    rows = at_last_step(every)
    compute_axis(ax, rows["gflops"])
    score_axis(ax, rows["value"])
    ax.set(xlabel=GFLOPS)
    label_score(ax, rows)
    models = over_seeds(rows, "gflops")
    models, name = models[models["complete"]], METRICS.get(metric, metric)
    by = ["study"] if models["study"].nunique() > 1 else []
    if style.several_families(every):
        inks = style.inks(every)[1]
        made = attempt(
            "", lambda: draw_families(ax, models_of(table, metric), inks, "Gflops", metric), []
        )
        set_title(ax, made or "")
    elif rows["recipe"].eq("").all():
        findings = [
            ": ".join([*part[by].iloc[0], draw_line(ax, part, name)])
            for _, part in models.groupby("study", sort=False)
            if part["gflops"].nunique() > 2
        ]
        set_title(ax, "\n".join(findings))
    draw_curves(ax, rows, "gflops", every, linestyle="none")
    return ax


def figure_09(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over training compute, and under it the best that each compute has bought."""
    named = apart(table, metric)
    rows = grid(named, metric)
    rows = rows[rows["compute"].gt(0)]
    compute_axis(ax, rows["compute"])
    score_axis(ax, rows["value"])
    ax.set(xlabel=COMPUTE)
    label_score(ax, rows)
    for _, study in named.groupby("study"):
        points = laws.frontier(study, metric)
        wide: dict[str, Any] = {"color": style.SOFT, "alpha": 0.3, "lw": 5, "zorder": 1}
        ax.plot(points["compute"], points["value"], label="frontier", **wide)
    draw_curves(ax, rows, "compute")
    return ax


def figure_10(table: pd.DataFrame, ax: Axes, metric: str = "fid") -> Axes:
    """Draws a score over sampling compute, of protocols that differ in sampling steps alone.

    A dotted line is the best score of the second best model: where another curve crosses it, that
    model's samples are as good.

    Raises:
        TableError: fewer than two models with several numbers of sampling steps.
    """
    rows = table[(table["metric"] == metric) & table["sampling_steps"].gt(0)]
    rows = rows[rows["gflops"].gt(0) & rows["step"].gt(0)]
    alike = [*ONE_SAMPLER, "model"]
    steps = rows.groupby(alike, dropna=False)["sampling_steps"].transform("nunique")
    rows = rows[steps.gt(1) & steps.eq(steps.max())]
    if rows["model"].nunique() < 2:
        counts = listed(table["sampling_steps"].dropna())
        raise TableError(f"no two models with several sampling steps ({counts}): score others")
    rows = one_axis(rows, ONE_SAMPLER)
    rows = rows.assign(sampling=sampling_compute(rows) / 1000, complete=True)
    compute_axis(ax, rows["sampling"])
    score_axis(ax, rows["value"])
    ax.set(xlabel=SAMPLING)
    label_score(ax, rows)
    ax.set_title(f"{listed(rows['sampling_steps'].sort_values())} sampling steps", loc="left")
    best = rows.groupby("model")["value"].min().nsmallest(2)
    ax.axhline(best.iloc[-1], color=style.SOFT, ls=":", lw=1, zorder=1, label="second best model")
    draw_curves(ax, rows.drop(columns="protocol"), "sampling")
    return ax
