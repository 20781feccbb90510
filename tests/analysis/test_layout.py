"""Figures at every venue's width: readable, inside the canvas, legible in grey, and their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.colors as mcolors
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from studies import PAPER, digits, rates, save_samples, steps_of, u_nets

from analysis import figures, layout, style
from analysis.files import figure_files, include, save, study_table
from analysis.samples import check_samples, load_samples
from analysis.table import TableError

# Machado, Oliveira and Fernandes (IEEE TVCG 15, 2009), severity 1, on linear RGB.
SEEN = {
    "normal": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
TO_XYZ = np.array([[0.412, 0.358, 0.180], [0.213, 0.715, 0.072], [0.019, 0.119, 0.950]])


def lab(colours: list[str], seen: str = "normal") -> np.ndarray:
    """CIELAB of colours [N, 3] as somebody with this kind of vision sees them."""
    rgb = np.array([mcolors.to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ np.array(SEEN[seen]).T, 0, 1) @ TO_XYZ.T / TO_XYZ.sum(1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.column_stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])]
    )


def small() -> pd.DataFrame:
    """Six models with one metric."""
    return digits()[lambda rows: rows["metric"].eq("fid") & rows["size"].isin(["S", "XL"])]


@pytest.mark.parametrize(("count", "least"), [(4, 20), (6, 11)])
def test_colours_of_sizes_differ_in_grey_and_for_the_colour_blind(count: int, least: float) -> None:
    colours = style.ramp(count)
    for seen in SEEN:
        seen_as = lab(colours, seen)
        apart = np.linalg.norm(seen_as[:, None] - seen_as, axis=2)[~np.eye(count, dtype=bool)]
        assert apart.min() > least
    lightness = lab(colours)[:, 0]
    assert (np.diff(lightness) < -8).all() and lightness[0] < 66


def patch_2() -> pd.DataFrame:
    """A log of four models."""
    return steps_of(60)[lambda rows: rows["patch"].eq(2)]


@pytest.mark.parametrize(
    ("name", "data", "width"),
    [
        *(("figure_08", small, width) for width in style.WIDTHS),
        *(("figure_06", small, width) for width in ("page", "neurips", "icml-column")),
        *(("figure_13", patch_2, width) for width in ("nature", "cvpr-column")),
    ],
)
def test_every_text_has_6_points_and_nothing_leaves_the_canvas(
    name: str, data: Callable[[], pd.DataFrame], width: str
) -> None:
    with style.theme(width):
        fig = Figure()
        layout.draw(name, data(), fig)
        style.stamp(fig, "a study, table 0a1b2c3d")
        assert fig.get_figwidth() <= style.WIDTHS[width] + 1e-6
        fig.draw_without_rendering()
        texts = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text()]
        assert min(text.get_fontsize() for text in texts) >= 6
        drawn = fig.get_tightbbox().extents
    size = np.tile(fig.get_size_inches(), 2) * [0, 0, 1, 1]
    assert (np.abs(drawn[:2]) < 0.02).all() or (drawn[:2] >= -0.02).all()
    assert (drawn[2:] <= size[2:] + 0.02).all()


def test_an_unknown_width_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'a4' is unknown: choose one of page, icml, "):
        style.theme("a4").__enter__()


def test_subplots_have_the_venues_width_and_margins_for_labels() -> None:
    with style.theme("icml-column"):
        import matplotlib.pyplot as plt

        fig, ax = plt.subplots()
        figures.figure_08(small(), ax)
        fig.draw_without_rendering()
        drawn = fig.get_tightbbox().extents
        plt.close(fig)
    assert fig.get_figwidth() == 3.25 and drawn[0] >= -0.02 and drawn[2] <= 3.27


def test_the_legend_has_what_is_drawn_and_nothing_else() -> None:
    behind = small()[lambda rows: rows["model"].ne("mini-DiT-S/8") | rows["step"].lt(600)]
    for table, expected in (
        (small(), ["size S", "size XL", "patch 8", "patch 4", "patch 2"]),
        (behind, ["size S", "size XL", "patch 8", "patch 4", "patch 2", "incomplete"]),
        (u_nets(), ["size S", "size B", "size L", "size XL", "UNet", "mini-DiT"]),
    ):
        fig = Figure()
        layout.draw("figure_08", table, fig)
        assert sorted(text.get_text() for text in fig.legends[0].get_texts()) == sorted(expected)
    fig = Figure()
    layout.draw("figure_08", PAPER, fig)
    assert "published" in {text.get_text() for text in fig.legends[0].get_texts()}


def test_a_caption_speaks_of_drawn_panels_seeds_and_scores_not_shown() -> None:
    fig = Figure()
    layout.draw("figure_12", PAPER, fig)
    assert "Below" not in fig.get_label()
    layout.draw("figure_08", PAPER, fig := Figure())
    caption = fig.get_label()
    assert "n = 12 models at step 400,000" in caption and "Pearson \N{MINUS SIGN}0.93" in caption
    assert "Scores not shown: 3 of DiT-XL/2 (conditioning is not adaLN-Zero)" in caption
    layout.draw("figure_09", rates(), fig := Figure())
    assert "of 3 seeds" in fig.get_label() and "not shown" not in fig.get_label()


def test_svg_keeps_its_text_and_png_has_300_dots_per_inch() -> None:
    with style.theme("icml-column"):
        fig = Figure()
        layout.draw("figure_08", small(), fig)
        files = figure_files("figure_08", fig)
        dots = np.round(fig.get_size_inches() * 300)
    assert ">Model compute (Gflops of one image)<" in files["figure_08.svg"].decode()
    header = files["figure_08.png"][16:24]
    assert np.abs(np.frombuffer(header, ">u4") - dots).max() <= 1


@pytest.mark.parametrize("pixels", [8, 16, 256])
def test_samples_are_enlarged_by_a_whole_factor_or_averaged_down(pixels: int) -> None:
    board = np.indices((pixels, pixels)).sum(0) % 2 * 255
    images = np.broadcast_to(board[..., None].astype(np.uint8), (2, 12, pixels, pixels, 1))
    names = {"model": np.array(["mini-DiT-S/8", "mini-DiT-XL/2, seed 12"]), "step": np.array(9)}
    with style.theme():
        fig = Figure()
        layout.draw("figure_07", {"images": images, "labels": np.arange(12), **names}, fig)
        ax = fig.axes[0]
        shown = np.asarray(ax.images[0].get_array())
        place = ax.get_position().extents * np.tile(fig.get_size_inches(), 2) * 300
        fig.draw_without_rendering()
        assert fig.get_tightbbox().x0 >= -0.01
    factor = (place[2] - place[0]) / shown.shape[1]
    assert factor == pytest.approx(round(factor), abs=1e-6)
    assert place == pytest.approx(np.round(place), abs=1e-3)
    if factor < 1.5:  # a checkerboard averages to grey
        inner = shown[5 : shown.shape[0] // 4, 5 : shown.shape[1] // 24]
        assert np.abs(inner.astype(float) - 127.5).max() < 40
    else:
        assert pixels < 20


def test_rows_of_samples_are_named_by_what_varies(tmp_path: Path) -> None:
    table = rates()
    runs = table.drop_duplicates("run")["run"].to_numpy(str)
    models = table.set_index("run")["model"].groupby(level=0).first()[runs].to_numpy(str)
    images = np.zeros((len(runs), 4, 8, 8, 1), np.uint8)
    path = save_samples(tmp_path / "samples.npz", images=images, model=models, run=runs)
    names = check_samples(load_samples(path), table)["name"]
    assert len(set(names)) == len(runs)
    assert {"mini-DiT-S/4, lr 0.003, seed 0", "mini-DiT-S/4, lr 0.001, seed 0"} <= set(names)


def test_a_saved_figure_has_all_formats_and_latex_at_its_width(tmp_path: Path) -> None:
    with style.theme("cvpr-column"):
        fig = Figure()
        layout.draw("figure_08", small(), fig)
        paths = save(fig, tmp_path / "made" / "eight")
    assert sorted(path.suffix for path in paths) == [".csv", ".pdf", ".png", ".svg"]
    with Image.open(tmp_path / "made" / "eight.png") as image:
        assert image.width == 975
    latex = include(tmp_path / "eight", fig)
    assert r"\includegraphics[width=3.25in]{eight.pdf}" in latex and r"95 \% band" in latex


def test_a_study_without_a_table_is_no_other_study(tmp_path: Path) -> None:
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "digits.csv").write_text("")
    assert study_table("digits", tmp_path) == tmp_path / "measured" / "digits.csv"
    (tmp_path / "digits.csv").write_text("")
    assert study_table("digits", tmp_path) == tmp_path / "digits.csv"
    with pytest.raises(TableError, match=r"'digit' has no table in .*: choose one of digits"):
        study_table("digit", tmp_path)


def test_the_style_of_one_theme_is_gone_after_it() -> None:
    before = mpl.rcParams["font.size"]
    with style.theme("nature"):
        assert mpl.rcParams["font.size"] != before
    assert mpl.rcParams["font.size"] == before
