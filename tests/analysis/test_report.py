"""The report as a reader gets it: its files, its sentences, its tables."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, draw_for_a_screen, environment
from matplotlib.axes import Axes
from studies import PAPER, digits, save_samples, saved, steps_of

from analysis import catalogue, drawing, panels, report
from analysis.captions import left_out
from analysis.paper_tables import paper_table
from analysis.parts import Part
from analysis.sections import Context
from analysis.table import TableError, load

FORMATS = ("pdf", "png", "svg", "csv")
SCREEN = ("svg", "csv")
TWICE = """
import sys
from pathlib import Path
from analysis.catalogue import FIGURES
from analysis.report import write
from analysis.table import load
for name in set(FIGURES) - set(sys.argv[3:]):
    del FIGURES[name]
write("small", load(sys.argv[1]), None, None, Path(sys.argv[2]))
"""
# Curves, a fit, and a bootstrap.
SOME = ("figure_02", "figure_08", "figure_prediction")


def small() -> pd.DataFrame:
    """The cheapest study with a correlation: FID of six models."""
    return digits()[lambda rows: rows["metric"].eq("fid") & rows["size"].isin(["S", "B"])]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        draw_for_a_screen(patch)
        report.write("peebles2023", PAPER, None, None, out)
    return out


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    samples = save_samples(out / "samples.npz")
    context = Context(
        title="Does <the score> follow Gflops?",
        abstract="First paragraph.\n\nSecond & last.",
        status="Incomplete: 2 of 74 scores are missing.",
        cost=pd.DataFrame({"Model": ["mini-DiT-S/8"], "Training": ["1.5 h"]}),
        missing=["mini-DiT-H/2: not trained"],
        deviations=[("batch_size", "256", "64")],
        provenance={"python": "3.11"},
    )
    with pytest.MonkeyPatch.context() as patch:
        draw_for_a_screen(patch)
        report.write("digits", digits(seeds=(0, 1)), steps_of(), samples, out, context)
    return out


def text(page: Path) -> str:
    visible = re.sub(r"<(svg|style).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return re.sub(r"<[^>]+>", " ", visible)


def test_published_numbers_give_every_figure_they_allow_and_all_tables(paper: Path) -> None:
    for number in ("02", "05", "08", "09", "12"):
        assert all((paper / f"figure_{number}.{kind}").stat().st_size > 100 for kind in SCREEN)
    assert all(
        (paper / f"table_{number}.{kind}").exists()
        for number in range(1, 7)
        for kind in ("csv", "tex")
    )
    page = text(paper / "index.html")
    assert "Figure 13 of the paper: the study has no log" in page
    assert all(f"Figure {number} of the paper: " in page for number in (6, 10))
    assert "Public reruns of the paper" in page and "Measured against published" not in page


def test_a_measured_study_gives_its_own_figures_and_says_why_not_the_others(measured: Path) -> None:
    drawn = {path.stem for path in measured.glob("figure_*.svg")}
    names = "02 06 07 08 09 12 13 prediction residuals joint running specification".split()
    assert drawn == {f"figure_{name}" for name in names}
    page = text(measured / "index.html")
    assert "Figure 5 of the paper: one conditioning only (adaLN-Zero)" in page
    assert "Figure 10 of the paper: " in page
    assert "mini-DiT-H/2: not trained" in page


def test_the_page_holds_what_a_reader_asks_for(measured: Path) -> None:
    page = text(measured / "index.html")
    for expected in (
        "Does &lt;the score&gt; follow Gflops?",
        "Second &amp; last.",
        "Incomplete: 2 of 74 scores",
        "1.5 h",
        "n = 12 models at step 600",
        "Spearman",
        "protocol digits1k_0a1b2c3d",
        "not comparable: the studies differ in features (digits-cnn-1, inception)",
        "c of a / Gflops^b + c",
        "batch_size",
        "24 runs of 12 models over seeds",
        "± ",
    ):
        assert expected in page


def test_tables_never_call_another_extractors_score_plain_fid(measured: Path) -> None:
    for name in ("table_2", "table_4"):
        assert "FID" not in set(paper_table(name, digits()).columns)
        assert not re.search(r"& FID (&|\\)", (measured / f"{name}.tex").read_text())


def test_tables_print_what_the_paper_prints() -> None:
    grid = paper_table("table_4", PAPER).set_index(["Model", "Steps", "Block"])["FID"]
    assert grid["DiT-S/8", "400,000", "adaLN-Zero"] == "153.60"
    assert grid["DiT-XL/2", "7,000,000", "adaLN-Zero"] == "9.62"
    best = paper_table("table_2", PAPER).iloc[-1]
    columns = ["Guidance", "FID", "sFID", "Inception Score", "Precision", "Recall"]
    assert best[columns].tolist() == "1.5 2.27 4.60 278.24 0.83 0.57".split()
    adm = paper_table("table_6", PAPER).set_index("Model").loc["ADM"]
    assert adm.tolist() == "307 1120 1983".split()


def draw_alone(monkeypatch: pytest.MonkeyPatch, **figures: panels.Layout) -> None:
    """A report has these figures and no other."""
    for name in set(catalogue.FIGURES) - set(figures):
        monkeypatch.delitem(catalogue.FIGURES, name)
    for name, made in figures.items():
        monkeypatch.setitem(catalogue.FIGURES, name, made)


def test_the_same_csv_gives_the_same_files_in_any_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here and in a process where sets have another order."""
    draw_alone(monkeypatch, **{name: catalogue.FIGURES[name] for name in SOME})
    path, here, there = saved(small(), tmp_path), tmp_path / "here", tmp_path / "there"
    report.write("small", load(path), None, None, here)
    command = [sys.executable, "-c", TWICE, path, there, *SOME]
    subprocess.run(command, check=True, cwd=ROOT, env=environment(PYTHONHASHSEED="1"))
    first, second = (
        {path.name: path.read_bytes() for path in folder.iterdir()} for folder in (here, there)
    )
    assert {f"{name}.{kind}" for name in SOME for kind in FORMATS} <= first.keys()
    assert first == second


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (digits()[:0], "no fid of a model with Gflops and a step"),
        (small()[:3], "a correlation needs 3 models at one step, fid has 1"),
    ],
    ids=["empty", "single point"],
)
@pytest.mark.usefixtures("figure_8_alone")
def test_a_poor_table_still_gives_a_page_that_says_why(
    table: pd.DataFrame, says: str, tmp_path: Path
) -> None:
    assert says in text(report.write("digits", table, None, None, tmp_path))


def test_scores_under_a_stray_protocol_are_counted() -> None:
    stray = digits()[:1].assign(protocol="other")
    reasons = left_out(pd.concat([digits(), stray]))
    assert reasons == ["Not in the main figures: 1 scores under other."]


@pytest.mark.usefixtures("figure_8_alone")
def test_one_of_two_protocols_can_be_chosen(tmp_path: Path) -> None:
    both = pd.concat([small(), small().assign(protocol="other")])
    page = text(report.write("digits", both, None, None, tmp_path, protocol="other"))
    assert "protocol other" in page and "Not in the main figures" not in page


@pytest.mark.usefixtures("svg_alone")
def test_a_bug_in_a_figure_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def panel(table: pd.DataFrame, ax: Axes) -> Axes:
        ax.plot(table["step"], [1.0])
        return ax

    broken = panels.Layout(((panels.Panel(panel, "A bug."),),))
    draw_alone(monkeypatch, figure_08=catalogue.FIGURES["figure_08"], figure_99=broken)
    with pytest.raises(ValueError, match="same first dimension") as caught:
        report.write("digits", small(), None, None, tmp_path)
    assert not isinstance(caught.value, TableError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"step": 400.5}, "does not hold the samples of models by label"),
        ({"step": 800}, "which the table does not have at step 800: score it, and collect again"),
        ({"protocol": "tiny_1"}, "the samples are of protocol tiny_1, which the table does not"),
    ],
    ids=["other shapes", "another step", "another protocol"],
)
def test_samples_that_are_not_the_tables_are_left_out_with_the_reason(
    arrays: dict[str, object], reason: str, tmp_path: Path
) -> None:
    samples = save_samples(tmp_path / "samples.npz", **arrays)
    sources = {"table": digits(), "samples": samples}
    with pytest.raises(TableError, match=reason):
        drawing.draw_figure("figure_07", sources, "a stamp", Part("", digits()))


@pytest.mark.usefixtures("svg_alone")
def test_damaged_samples_cost_figure_7_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_alone(
        monkeypatch, **{name: catalogue.FIGURES[name] for name in ("figure_07", "figure_08")}
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / "figure_07.pdf").write_text("of an earlier report")
    samples = save_samples(tmp_path / "samples.npz")
    samples.write_bytes(samples.read_bytes()[:5000])
    page = text(report.write("digits", small(), None, samples, out))
    assert re.search(
        r"Figure 7 of the paper: \S+samples.npz cannot be read \(.*\): collect again", page
    )
    assert "Figure 8 of the paper" in page and not (out / "figure_07.pdf").exists()


@pytest.mark.usefixtures("svg_alone")
def test_several_studies_side_by_side(tmp_path: Path) -> None:
    other = digits(seeds=(0, 1, 2), draw=5).assign(study="other")
    third = digits().assign(study="third", features="inception")
    page = text(report.compare([digits(seeds=(0, 1, 2)), other, third], tmp_path))
    assert "12 models are in both" in page and "inconclusive" in page
    assert all(f"{name}: table" in page for name in ("digits", "other", "third"))
    assert len(pd.read_csv(tmp_path / "comparison_digits_other.csv")) == 12
    assert (tmp_path / "comparison_digits_third.csv").exists()
