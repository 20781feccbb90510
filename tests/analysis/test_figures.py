"""Figures through their artists: what is drawn where, in which colour, and why a panel is not."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from rate_worlds import RateWorld
from scipy import stats
from studies import PAPER, digits, protocols, rates, steps_of, u_nets, unknown_size

from analysis import (
    catalogue,
    figures,
    fits,
    laws,
    layout,
    loss,
    panels,
    statistics_panels,
    style,
    sweep_panels,
)
from analysis.grid import final
from analysis.plotted import plotted
from analysis.prediction import leave_one_out
from analysis.seeds import over_seeds
from analysis.table import TableError

Panel = Callable[..., Axes]


def axes() -> Axes:
    return Figure(figsize=(6.6, 4.4)).add_axes((0.12, 0.15, 0.85, 0.75))


def boxes(ax: Axes) -> np.ndarray:
    ax.figure.draw_without_rendering()
    # Of the text alone: an annotation's own extent has its line.
    return np.array([Text.get_window_extent(text).extents for text in ax.texts])


def lines_of(ax: Axes) -> dict[str, Line2D]:
    """The lines of models, by model."""
    return {str(line.get_label()): line for line in ax.lines if "DiT" in str(line.get_label())}


def test_colour_is_the_size_marker_the_patch_and_published_is_hollow() -> None:
    for table, hollow in ((PAPER, True), (digits(), False)):
        lines = lines_of(figures.figure_08(table, axes()))
        assert len(lines) == 12
        for model, row in final(table).set_index("model").iterrows():
            line = lines[model]
            assert line.get_color() == line.get_markeredgecolor() == style.PALETTE[row["size"]]
            assert line.get_marker() == style.MARKERS[row["patch"]]
            assert line.get_markerfacecolor() == ("white" if hollow else line.get_color())


def test_incomplete_runs_are_grey_where_they_stopped() -> None:
    table = digits()
    table = table[(table["model"] != "mini-DiT-L/2") | (table["step"] < 600)]
    for panel in (figures.figure_08, figures.figure_09):
        grey = {
            line.get_label()
            for line in panel(table, axes()).lines
            if line.get_color() == style.INCOMPLETE
        }
        assert grey == {"mini-DiT-L/2"}


@pytest.mark.parametrize("panel", [figures.figure_08, figures.figure_09])
def test_compute_axes_name_powers_of_ten_at_least_two(panel: Panel) -> None:
    ax = panel(PAPER, axes())
    low, high = ax.get_xlim()
    named = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ax.get_xscale() == "log" and len(named) >= 2
    assert np.allclose(np.log10(named) % 1, 0)


@pytest.mark.parametrize("table", [PAPER, digits()], ids=["published", "measured"])
@pytest.mark.parametrize("panel", [figures.figure_02_left, figures.figure_08, figures.figure_09])
def test_labels_cover_neither_each_other_nor_the_frame(panel: Panel, table: pd.DataFrame) -> None:
    with style.theme():
        ax = panel(table, axes())
        texts = boxes(ax)
    assert len(texts) == 12
    frame = ax.get_window_extent().extents
    assert (texts[:, :2] > frame[:2] - 2).all() and (texts[:, 2:] < frame[2:] + 2).all()
    for i, text in enumerate(texts):
        sides = np.minimum(text[2:], texts[:, 2:]) - np.maximum(text[:2], texts[:, :2])
        sides[i] = 0
        assert np.prod(np.clip(sides, 0, None), axis=1).max() < 0.25 * np.prod(text[2:] - text[:2])


def apart_from(text: np.ndarray, line: Line2D) -> float:
    """Pixels between a text's box and the nearest point of a curve."""
    points = line.get_transform().transform(np.asarray(line.get_xydata(), float))
    t = np.linspace(0, len(points) - 1, 400)
    along = np.column_stack([np.interp(t, np.arange(len(points)), axis) for axis in points.T])
    outside = np.clip(np.maximum(text[:2] - along, along - text[2:]), 0, None)
    return float(np.linalg.norm(outside, axis=1).min())


@pytest.mark.parametrize("width", ["page", "icml-column"])
@pytest.mark.parametrize("name", ["figure_06", "figure_09"])
def test_a_label_is_nearer_to_its_own_curve_than_to_any_other(name: str, width: str) -> None:
    with style.theme(width):
        fig = Figure()
        layout.draw(name, digits(seeds=(0, 1)), fig)
        fig.draw_without_rendering()
    for ax in fig.axes:
        lines = lines_of(ax)
        assert len(ax.texts) == len(lines)
        for text in ax.texts:
            box = Text.get_window_extent(text).extents
            far = {model: apart_from(box, line) for model, line in lines.items()}
            assert min(far, key=far.__getitem__) == f"mini-DiT-{text.get_text()}"


def test_the_style_stays_inside_its_context() -> None:
    before = dict(mpl.rcParams)
    with style.theme():
        pass
    assert dict(mpl.rcParams) == before


def test_figure_2_bubbles_have_areas_in_proportion_to_gflops() -> None:
    ax = figures.figure_02_left(PAPER, axes())
    bubbles = [dots for dots in ax.collections if isinstance(dots, PathCollection)]
    area = {dots.get_label(): dots.get_sizes()[0] for dots in bubbles}
    assert area["DiT-XL/2"] / area["DiT-S/2"] == pytest.approx(118.64 / 6.06)


def test_figure_2_gives_a_new_size_and_a_family_without_sizes_a_place() -> None:
    for table, name in ((unknown_size(), "H"), (u_nets(), "UNet")):
        ax = figures.figure_02_left(table, axes())
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["S", "B", "L", "XL", name]
        low, high = ax.get_xlim()
        assert all(low < dots.get_offsets()[0][0] < high for dots in ax.collections)


def test_figure_2_sets_the_guided_model_among_the_u_nets_and_says_guidance_and_steps() -> None:
    ax = figures.figure_02_right(PAPER, axes())
    drawn = {dots.get_label(): dots.get_offsets()[0].tolist() for dots in ax.collections}
    assert drawn["DiT-XL/2"] == pytest.approx([118.64, 2.27])
    assert drawn["ADM-U"] == pytest.approx([742, 7.49])
    assert "DiT-XL/2-G\ncfg 1.5, 7M steps" in {text.get_text() for text in ax.texts}


def test_figure_5_has_a_curve_per_conditioning_in_its_colour_faces_too() -> None:
    lines = figures.figure_05(PAPER, axes()).lines
    assert [line.get_color() for line in lines] == list(figures.CONDITIONINGS.values())[::-1] or {
        line.get_color() for line in lines
    } == set(figures.CONDITIONINGS.values())
    measured = digits()[lambda rows: rows["model"].eq("mini-DiT-XL/2")]
    kinds = [measured.assign(conditioning=name, run=name) for name in figures.CONDITIONINGS]
    for line in figures.figure_05(pd.concat(kinds), axes()).lines:
        assert line.get_color() == line.get_markerfacecolor() == line.get_markeredgecolor()
        assert len(line.get_xdata()) == 3
    with pytest.raises(TableError, match="one conditioning only"):
        figures.figure_05(digits(), axes())


def test_figure_6_has_a_panel_per_patch_size_and_family_without_sizes() -> None:
    for table, counts in (
        (unknown_size(), [5, 5, 5, 3, 3, 3, 3, 3]),
        (u_nets(), [4, 4, 4, 3, 3, 3, 3, 4]),
    ):
        fig = Figure()
        assert layout.draw("figure_06", table, fig) == []
        assert [len(ax.lines) for ax in fig.axes] == counts


def test_figure_6_panels_have_the_same_axes_and_outer_labels_alone() -> None:
    with style.theme():
        fig = Figure()
        layout.draw("figure_06", digits(), fig)
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in fig.axes}) == 1
    assert [bool(ax.get_ylabel()) for ax in fig.axes] == [True, False, False, True] + [False] * 3


def test_patches_of_one_size_differ_in_dashes_and_marker() -> None:
    for ax in (
        figures.figure_06(digits(), axes(), size="XL"),
        loss.figure_13(steps_of(), axes(), size="XL"),
    ):
        assert len({line.get_linestyle() for line in ax.lines}) == 3
    markers = {line.get_marker() for line in figures.figure_06(digits(), axes(), size="XL").lines}
    assert len(markers) == 3


def test_scores_of_one_step_have_no_curves_to_draw() -> None:
    with pytest.raises(TableError, match="one step of every model"):
        layout.draw("figure_06", PAPER, Figure())


def test_figure_8_states_what_ten_times_the_gflops_do_and_that_one_line_is_refuted() -> None:
    ax = figures.figure_08(PAPER, axes())
    finding, test = ax.get_title(loc="left").split("\n")
    slope = fits.exponents(PAPER).set_index("exponent of")["value"]["gflops"]
    assert f"FID × {10**slope:.2f} [" in finding
    assert test == "refuted: a line per patch, p = 7e-05"
    drawn = {str(line.get_label()): line for line in ax.lines}
    assert {"line", "patch 2", "patch 4", "patch 8"} <= set(drawn)


def test_figure_8_draws_the_mean_of_seeds_with_its_interval_by_the_spread_of_a_patch() -> None:
    table = digits(seeds=(0, 1, 2))
    ax = figures.figure_08(table, axes())
    rows = table[table["metric"].eq("fid") & table["step"].eq(600)]
    last = rows.groupby("model")["value"]
    drawn = {model: line.get_ydata()[0] for model, line in lines_of(ax).items()}
    assert drawn == pytest.approx(last.mean().to_dict())
    bars = [part for part in ax.collections if isinstance(part, LineCollection)]
    ends = sorted(tuple(np.asarray(bar.get_segments()[0])[:, 1]) for bar in bars)
    wanted = []
    for _, own in rows.assign(log=np.log(rows["value"])).groupby("patch"):
        spread = np.sqrt(own.groupby("model")["log"].var().mean())
        half = stats.t.ppf(0.975, 4 * 2) * spread / np.sqrt(3)
        means = own.groupby("model")["value"].mean()
        wanted += [(mean / np.exp(half), mean * np.exp(half)) for mean in means]
    assert np.allclose(ends, sorted(wanted))


def test_figure_8_draws_a_single_point_without_a_line() -> None:
    ax = figures.figure_08(digits()[:15], axes())
    assert len(ax.lines) == 1 and ax.get_title(loc="left") == ""


def test_two_studies_share_an_axis_only_if_their_scores_are_one_quantity() -> None:
    mine = PAPER.assign(study="mine", source="measured", run="r")
    ax = figures.figure_08(pd.concat([mine, PAPER]), axes())
    faces = [line.get_markerfacecolor() for line in ax.lines if "DiT" in str(line.get_label())]
    assert faces.count("white") == 12 and len(faces) == 24
    with pytest.raises(TableError, match=r"different features .* and n "):
        figures.figure_08(pd.concat([digits(), PAPER]), axes())


def test_families_have_colours_their_sizes_markers_and_each_has_its_line() -> None:
    ax = figures.figure_08(u_nets(), axes())
    lines = {str(line.get_label()): line for line in ax.lines}
    models = {size: [lines[f"mini-DiT-{size}/{p}"] for p in (8, 2)] for size in "SBL"}
    colours = {line.get_color() for of_size in models.values() for line in of_size}
    markers = {size: {line.get_marker() for line in of_size} for size, of_size in models.items()}
    assert len(colours) == 1 and lines["UNet-64"].get_color() not in colours
    assert len(set.union(*markers.values())) == 3 and all(len(m) == 1 for m in markers.values())
    assert {"mini-DiT, line", "UNet, line"} <= set(lines)
    assert "leads: the next needs" in ax.get_title(loc="left")


def test_recipes_are_drawn_apart_and_named_by_what_varies() -> None:
    ax = figures.figure_06(rates(), axes(), size="S")
    assert {text.get_text() for text in ax.texts} == {"lr 0.001", "lr 0.003"}
    whole = figures.figure_09(rates(), axes())
    assert {f"{size}/4, lr {lr}" for size in "SBL" for lr in (0.001, 0.003)} == {
        text.get_text() for text in whole.texts
    }


def test_figure_9_is_drawn_over_training_compute_with_the_frontier() -> None:
    ax = figures.figure_09(PAPER, axes())
    drawn = {line.get_label(): line for line in ax.lines}
    assert drawn["DiT-XL/2"].get_xdata() == pytest.approx(
        [118.64 * 256 * 3 * step for step in (4e5, 2.352e6, 7e6)]
    )
    points = laws.frontier(PAPER)
    assert drawn["frontier"].get_ydata().tolist() == points["value"].tolist()
    assert ax.get_yscale() == "log"


def test_figure_10_needs_two_models_with_several_sampling_steps() -> None:
    with pytest.raises(TableError, match="no two models with several sampling steps"):
        figures.figure_10(PAPER, axes())
    lines = lines_of(figures.figure_10(protocols((16, 64, 256)), axes()))
    assert len(lines) == 12 and all(len(line.get_xdata()) == 3 for line in lines.values())
    gflops = final(digits()).set_index("model")["gflops"]["mini-DiT-XL/2"]
    x = lines["mini-DiT-XL/2"].get_xdata()
    assert x == pytest.approx([gflops * steps / 1000 for steps in (16, 64, 256)])


def test_figure_12_names_metrics_at_the_axis_and_writes_over_no_interval() -> None:
    with style.theme():
        fig = Figure()
        layout.draw("figure_12", PAPER, fig)
        fig.draw_without_rendering()
        ax = fig.axes[0]
        names = [tick.get_text() for tick in ax.get_yticklabels()]
        legend = ax.get_legend()
        assert names == ["FID", "sFID", "Inception Score", "Precision", "Recall"]
        assert not ax.texts and legend is not None
        texts = [text.get_text() for text in legend.get_texts()]
        assert texts[0] == "printed in the paper" and texts[1].startswith("computed, n = 12")
        low = legend.get_window_extent().y0
    for line in ax.lines[:-1]:
        shown = line.get_transform().transform(np.asarray(line.get_xydata(), float))
        assert (shown[:, 1] < low).all()


def test_figure_12_draws_the_printed_correlations_hollow_and_the_computed_filled() -> None:
    lines = statistics_panels.figure_12(PAPER, axes()).lines
    hollow = [line.get_xdata()[0] for line in lines if line.get_markerfacecolor() == "white"]
    assert hollow == [-0.93, -0.86, 0.90, 0.93, 0.86]
    dots = [line for line in lines if "computed" in str(line.get_label())]
    assert dots[0].get_xdata() == pytest.approx([-0.9298], abs=5e-5)


def test_figure_12_is_not_drawn_of_two_models_and_says_why() -> None:
    two = digits()[lambda rows: rows["model"].isin(["mini-DiT-S/2", "mini-DiT-XL/2"])]
    with pytest.raises(TableError, match="no metric has 3 models at one step"):
        layout.draw("figure_12", two, Figure())


@pytest.mark.parametrize("steps", [[1], [7], [600], [1000, 200], [1000, 3, 999]])
def test_a_bin_of_the_loss_holds_at_least_half_as_many_rows_as_the_fullest(
    steps: list[int],
) -> None:
    first = steps_of(1)
    logs = [
        first.iloc[[i]].drop(columns=["step", "loss"]).merge(one, how="cross")
        for i, count in enumerate(steps)
        for one in [pd.DataFrame({"step": np.arange(1, count + 1), "loss": 1.0})]
    ]
    rows = loss.binned(pd.concat(logs, ignore_index=True))
    assert rows["rows"].sum() == sum(steps)
    for _, curve in rows.groupby("model", observed=True):
        assert (curve["rows"] >= 0.5 * rows["rows"].max()).all() or len(curve) == 1


def test_the_smoothed_loss_of_a_line_is_the_line_to_its_last_step() -> None:
    rows = loss.smoothed(steps_of())
    assert rows["loss"].to_numpy() == pytest.approx(rows["step"].to_numpy(), rel=1e-6)
    assert rows["step"].max() > 597


def test_figure_13_starts_at_0_and_its_noise_shrinks() -> None:
    log = steps_of()
    rng = np.random.default_rng(0)
    log["loss"] = 0.2 * (1 + 0.1 * rng.standard_normal(len(log)))
    ax = loss.figure_13(log, axes(), patch=2)
    assert len(ax.lines) == 4 and ax.get_xlim()[0] == 0
    assert max(np.std(line.get_ydata()) for line in ax.lines) < 0.2 * 0.1 / 4


def test_figure_13_has_a_band_over_seeds_that_holds_the_loss_of_most() -> None:
    """Each recipe has an offset per seed: a mean of 3 has the interval of t, 8 df a patch."""
    rng, logs = np.random.default_rng(0), []
    for seed in range(3):
        log = steps_of(60).assign(seed=float(seed))
        offset = dict(zip(log["model"].unique(), 0.1 * rng.standard_normal(12), strict=True))
        logs.append(log.assign(loss=0.2 * np.exp(log["model"].map(offset).astype(float))))
    log = pd.concat(logs, ignore_index=True)
    rows = loss.smoothed(log).rename(columns={"loss": "value"})
    found = over_seeds(rows)
    half = np.log(found["high"] / found["value"])
    assert (found["seeds"] == 3).all()
    assert 0.6 < np.mean(np.abs(np.log(found["value"] / 0.2)) < half) <= 1
    offsets = np.log(rows.groupby(["model", "seed"])["value"].first()).unstack()
    patch = offsets.index.str.endswith("/2")
    spread = np.sqrt(offsets[patch].var(axis=1).mean())
    wanted = stats.t.ppf(0.975, 8) * spread / np.sqrt(3)
    of_two = np.asarray(half)[found["patch"].eq(2).to_numpy()]
    assert of_two == pytest.approx(wanted, rel=1e-6)
    bands = loss.figure_13(log, axes(), patch=2).collections
    assert len(bands) == 4


def test_a_seed_that_stopped_early_is_in_the_mean_as_far_as_it_came() -> None:
    first = steps_of(400).assign(seed=0.0)[lambda log: log["model"].eq("mini-DiT-S/2")]
    both = pd.concat([first, first[first["step"] <= 200].assign(seed=1.0)], ignore_index=True)
    found = over_seeds(loss.smoothed(both).rename(columns={"loss": "value"}))
    assert found.loc[found["step"] < 190, "seeds"].eq(2).all()
    assert found.loc[found["step"] > 210, "seeds"].eq(1).all()


def test_best_rates_are_drawn_with_their_law_and_those_at_an_edge_as_triangles() -> None:
    world = RateWorld(rates=tuple(2.0**-k for k in range(10, 3, -1)), exponent=-0.6)
    table = world.draw(np.random.default_rng(0))
    fig = Figure()
    layout.draw("figure_rates", table, fig)
    scores, best = fig.axes
    curves = [line for line in scores.lines if line.get_label() == "parabola"]
    edges = [line for line in best.lines if line.get_label() == "edge"]
    assert len(curves) == 3 and [line.get_marker() for line in edges] == ["v"]
    (law,) = (line for line in best.lines if line.get_label() == "law")
    x, y = (np.log(np.asarray(axis, float)) for axis in law.get_data())
    assert np.polyfit(x, y, 1)[0] == pytest.approx(-0.6, abs=0.05)
    assert not [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def test_sweeps_are_drawn_over_what_they_vary_with_their_best_ringed() -> None:
    table = protocols((16, 64), scales=(1.0, 1.5, 2.0))
    table = table[table["model"].isin(["mini-DiT-S/2", "mini-DiT-XL/2"])]
    fields = [panel["field"] for panel in sweep_panels.swept(table)[0]]
    assert fields == ["guidance", "sampling_steps"]
    ax = sweep_panels.sweep(table, axes(), "guidance")
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_label() == "best"]
    assert rings == [1.5] * 4
    assert "XL/2, steps 64" in {text.get_text() for text in ax.texts}
    with pytest.raises(TableError, match="no model has scores at several values"):
        layout.draw("figure_sweeps", digits(), Figure())


def test_a_learning_rate_sweep_has_a_curve_per_model_with_its_seeds() -> None:
    ax = sweep_panels.sweep(rates(), axes(), "lr")
    curves = [line for line in ax.lines if "DiT" in str(line.get_label())]
    assert [line.get_xdata().tolist() for line in curves] == [[0.001, 0.003]] * 3


def test_the_prediction_figure_draws_every_interval_and_counts_those_that_hold() -> None:
    fig = Figure()
    layout.draw("figure_prediction", PAPER, fig)
    rows = leave_one_out(PAPER)
    for ax, (law, part) in zip(fig.axes, rows.groupby("law", sort=False), strict=True):
        held = part["truth"].between(part["low"], part["high"]).sum()
        title = ax.get_title(loc="left")
        assert title.startswith(f"{law}\n{held} of 12 held")
        lines = [bars for bars in ax.collections if isinstance(bars, LineCollection)]
        bars = [bars for bars in lines if "interval" in str(bars.get_label())]
        drawn = np.vstack([np.asarray(bar) for one in bars for bar in one.get_segments()])
        assert sorted(drawn[:, 1]) == pytest.approx(sorted([*part["low"], *part["high"]]))


def test_residuals_of_an_exact_law_are_one() -> None:
    ax = statistics_panels.residuals(digits(sd=0), axes())
    assert [line.get_ydata()[0] for line in lines_of(ax).values()] == pytest.approx([1] * 12)


def test_drawn_numbers_are_the_tables() -> None:
    fig = Figure()
    layout.draw("figure_08", PAPER, fig)
    drawn = plotted(fig)
    drawn = drawn[drawn["series"].str.startswith("DiT")].set_index("series")
    expected = final(PAPER).set_index("model")
    assert drawn["y"].to_dict() == expected["value"].to_dict()
    assert drawn["x"].to_dict() == expected["gflops"].to_dict()


def test_a_bug_in_a_panel_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def panel(table: pd.DataFrame, ax: Axes) -> Axes:
        ax.plot(table["step"], [1.0])
        return ax

    bug = panels.Layout(((panels.Panel(panel, "A bug."),),))
    monkeypatch.setitem(catalogue.FIGURES, "figure_99", bug)
    with pytest.raises(ValueError, match="same first dimension") as caught:
        layout.draw("figure_99", PAPER, Figure())
    assert not isinstance(caught.value, TableError)


NAMED = ("size", "model")


def test_dollar_signs_in_names_are_drawn_as_they_are() -> None:
    strange = {
        name: digits()[name].str.replace(r"^S$|S(?=/)", "$x^$", regex=True) for name in NAMED
    }
    table = digits().assign(**strange)
    fig = Figure()
    layout.draw("figure_08", table, fig)
    fig.draw_without_rendering()
    assert any("$x^$" in text.get_text().replace("\\$", "$") for text in fig.axes[0].texts)


def test_the_interval_of_a_step_of_one_recipe_is_by_all_steps_and_counts_runs() -> None:
    """Five models at steps of their own, two seeds: five degrees of freedom, not one, nor ten."""
    rng = np.random.default_rng(0)
    two = (
        digits(seeds=(0, 1))
        .query("metric == 'fid' and model == 'mini-DiT-S/2'")
        .assign(complete=True)
    )
    rows = pd.concat([two.assign(model=f"m{i}", step=two["step"] + i) for i in range(5)])
    rows["value"] *= np.exp(0.1 * rng.standard_normal(len(rows)))
    found = over_seeds(rows)
    assert len(found) == 15
    pairs = np.log(rows.set_index(["model", "step", "seed"])["value"]).unstack()
    spread = np.sqrt(pairs.var(axis=1).mean())
    half = np.log(found["high"] / found["value"])
    assert np.asarray(half) == pytest.approx(stats.t.ppf(0.975, 5) * spread / np.sqrt(2))
