"""Figures through their artists: what is drawn where, in which colour, and why a panel is not."""

from __future__ import annotations

import matplotlib.colors as mcolors
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from studies import PAPER, digits, steps_of

from analysis import figures, layout, style
from analysis.grid import final
from analysis.table import TableError


def axes() -> Axes:
    return Figure(figsize=(6.6, 4.4)).add_axes((0.12, 0.15, 0.85, 0.75))


def boxes(ax: Axes) -> np.ndarray:
    ax.figure.draw_without_rendering()
    return np.array([text.get_window_extent().extents for text in ax.texts])


def test_colour_is_the_size_marker_the_patch_and_published_is_hollow() -> None:
    for table, hollow in ((PAPER, True), (digits(), False)):
        lines = {line.get_label(): line for line in figures.figure_08(table, axes()).lines}
        assert len(lines) == 12
        for model, row in final(table).set_index("model").iterrows():
            assert lines[model].get_color() == style.PALETTE[row["size"]]
            assert lines[model].get_marker() == style.MARKERS[row["patch"]]
            assert (lines[model].get_markerfacecolor() == "white") is hollow


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


@pytest.mark.parametrize("panel", [figures.figure_08, figures.figure_09, figures.figure_10])
def test_log_axes_name_powers_of_ten_at_least_two(panel: layout.Panel) -> None:
    ax = panel(PAPER, axes())
    low, high = ax.get_xlim()
    named = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ax.get_xscale() == "log" and len(named) >= 2
    assert np.allclose(np.log10(named) % 1, 0)


@pytest.mark.parametrize(
    "panel", [figures.figure_02_left, figures.figure_06, figures.figure_08, figures.figure_09]
)
@pytest.mark.parametrize("table", [PAPER, digits()], ids=["published", "measured"])
def test_labels_cover_neither_each_other_nor_the_frame(
    panel: layout.Panel, table: pd.DataFrame
) -> None:
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


def test_the_style_stays_inside_its_context() -> None:
    before = dict(style.mpl.rcParams)
    with style.theme():
        pass
    assert dict(style.mpl.rcParams) == before


@pytest.mark.parametrize(
    "name", [name for name, page in layout.FIGURES.items() if page.source == "table"]
)
def test_every_published_figure_is_drawn_with_units(name: str) -> None:
    fig = Figure()
    layout.draw(name, PAPER, fig)
    assert all(ax.get_xlabel() for ax in fig.axes)


def test_figure_2_bubbles_have_areas_in_proportion_to_gflops() -> None:
    ax = figures.figure_02_left(PAPER, axes())
    area = {dots.get_label(): dots.get_sizes()[0] for dots in ax.collections}
    assert area["DiT-XL/2"] / area["DiT-S/2"] == pytest.approx(118.64 / 6.06)


def test_figure_2_sets_the_guided_model_among_the_u_nets() -> None:
    drawn = {
        dots.get_label(): dots.get_offsets()[0].tolist()
        for dots in figures.figure_02_right(PAPER, axes()).collections
    }
    assert drawn["DiT-XL/2"] == pytest.approx([118.64, 2.27])
    assert drawn["ADM-U"] == pytest.approx([742, 7.49])


def test_figure_5_has_a_curve_per_conditioning() -> None:
    assert len(figures.figure_05(PAPER, axes()).lines) == 4
    with pytest.raises(TableError, match="one conditioning only"):
        figures.figure_05(digits(), axes())


def test_figure_6_has_four_curves_per_patch_and_three_per_size() -> None:
    fig = Figure()
    assert layout.draw("figure_06", digits(), fig) == []
    assert [len(ax.lines) for ax in fig.axes] == [4, 4, 4, 3, 3, 3, 3]


def test_figure_6_without_a_size_gives_the_reason_and_draws_the_rest() -> None:
    fig, table = Figure(), digits()
    reasons = layout.draw("figure_06", table[table["size"] != "L"], fig)
    assert reasons == ["no model of size L in the table: train and score one"]
    assert len(fig.axes) == 6


def test_figure_7_has_a_row_per_model_and_a_column_per_label() -> None:
    images = np.zeros((3, 4, 16, 16, 1), np.uint8)
    ax = figures.figure_07(
        {"images": images, "model": np.array(list("abc")), "labels": np.arange(4), "step": 9},
        axes(),
    )
    assert ax.images[0].get_array().shape == (3 * 18, 4 * 18)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b", "c"]


def test_figure_8_states_pearson_interval_and_n() -> None:
    title = figures.figure_08(PAPER, axes()).get_title(loc="left")
    assert title == "Pearson \N{MINUS SIGN}0.93 [\N{MINUS SIGN}0.98, \N{MINUS SIGN}0.76], n = 12"


def test_figure_8_draws_a_single_point_and_says_why_it_has_no_correlation() -> None:
    ax = figures.figure_08(digits()[:15], axes())
    assert len(ax.lines) == 1
    assert ax.get_title(loc="left") == "A correlation needs 3 models at one step, fid has 1"


def test_two_studies_share_an_axis_only_if_their_scores_are_one_quantity() -> None:
    mine = PAPER.assign(study="mine", source="measured", run="r")
    both = pd.concat([mine, PAPER])
    faces = [line.get_markerfacecolor() for line in figures.figure_08(both, axes()).lines]
    assert faces.count("white") == 12 and len(faces) == 24
    with pytest.raises(TableError, match=r"different features .* and n "):
        figures.figure_08(pd.concat([digits(), PAPER]), axes())


def test_figure_9_is_drawn_over_training_compute() -> None:
    line = next(
        line for line in figures.figure_09(PAPER, axes()).lines if line.get_label() == "DiT-XL/2"
    )
    assert line.get_xdata() == pytest.approx(
        [118.64 * 256 * 3 * step for step in (4e5, 2.352e6, 7e6)]
    )


def test_figure_10_is_the_papers_pair_over_tflops() -> None:
    lines = {
        line.get_label(): line.get_xydata()[0] for line in figures.figure_10(PAPER, axes()).lines
    }
    assert lines["DiT-L/2"] == pytest.approx([80.71, 25.9])
    assert lines["DiT-XL/2"] == pytest.approx([15.186, 23.7], rel=1e-3)


def test_figure_12_prints_the_papers_five_correlations() -> None:
    lines = {line.get_label(): line.get_xdata() for line in figures.figure_12(PAPER, axes()).lines}
    printed = [float(x[0]) for label, x in lines.items() if label.endswith("printed")]
    assert printed == [-0.93, -0.86, 0.90, 0.93, 0.86]
    assert lines["fid, n = 12"] == pytest.approx([-0.9298], abs=5e-5)


def test_figure_13_averages_bins_of_steps() -> None:
    rows = figures.binned(steps_of(), bins=10)
    assert rows.groupby("run").size().unique() == [11]  # the last step stands on the far edge
    assert rows["loss"].to_numpy() == pytest.approx(rows["step"].to_numpy())
    assert len(figures.figure_13(steps_of(), axes(), patch=2).lines) == 4


def test_drawn_numbers_are_the_tables() -> None:
    fig = Figure()
    layout.draw("figure_08", PAPER, fig)
    drawn = layout.plotted(fig).set_index("series")
    expected = final(PAPER).set_index("model")
    assert drawn["y"].to_dict() == expected["value"].to_dict()
    assert drawn["x"].to_dict() == expected["gflops"].to_dict()


def test_overview_sets_both_studies_side_by_side() -> None:
    left, right = layout.overview(digits(), PAPER, Figure()).axes
    assert left.get_ylabel().startswith("FID (digits-cnn-1") and right.get_ylabel() == "FID-50K"
    assert mcolors.same_color(left.lines[0].get_color(), right.lines[0].get_color())


def test_a_bug_in_a_panel_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def panel(table: pd.DataFrame, ax: Axes) -> Axes:
        ax.plot(table["step"], [1.0])
        return ax

    monkeypatch.setitem(layout.FIGURES, "figure_99", layout.Layout("A bug.", ((panel,),)))
    with pytest.raises(ValueError, match="same first dimension") as caught:
        layout.draw("figure_99", PAPER, Figure())
    assert not isinstance(caught.value, TableError)


def test_dollar_signs_in_names_are_drawn_as_they_are() -> None:
    table = digits().assign(size=lambda rows: rows["size"].replace("S", "$x^$"))
    fig = Figure()
    layout.draw("figure_08", table, fig)
    fig.draw_without_rendering()
    assert "$x^$" in {text.get_text().replace("\\$", "$")[:4] for text in fig.axes[0].texts}
