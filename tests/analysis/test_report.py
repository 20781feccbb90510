"""The report as a reader gets it: its files, its sentences, and the page in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbclient import NotebookClient
from test_analysis import PAPER, digits
from test_analysis_figures import steps_of

import analysis
from analysis import layout, printed, report, style, tables

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --enable-logging=stderr --dump-dom --virtual-time-budget=2000"
).split()
# Run in the page: the drawn size of every figure, the requests that were made, the width that has to be scrolled.
PROBE = """<script>document.body.dataset.probe = JSON.stringify({
  figures: [...document.querySelectorAll('figure svg')].map(s => [s.getBoundingClientRect().width,
    Math.min(...[...s.querySelectorAll('g')].slice(0, 1).map(g => g.getBBox().height))]),
  requests: performance.getEntriesByType('resource').map(entry => entry.name),
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth})</script>"""
FORMATS = ("pdf", "png", "svg", "csv")


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("paper")
    report.write("peebles2023", PAPER, None, None, out, {})
    return out


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    images = np.random.default_rng(0).integers(0, 255, (12, 4, 16, 16, 1), np.uint8)
    models = np.array(digits()["model"].unique(), dtype=str)
    np.savez(out / "samples.npz", images=images, model=models, labels=np.arange(4), step=600)
    context = {
        "question": "Does <the score> follow Gflops?",
        "plan": "+ Train mini-DiT-S/8",
        "cost": "0.1 CPU hours",
        "missing": ["mini-DiT-H/2: not trained"],
        "deviations": [("batch_size", "256", "64")],
        "provenance": {"python": "3.11"},
    }
    report.write("digits", digits(seeds=(0, 1)), steps_of(), out / "samples.npz", out, context)
    return out


def text(page: Path) -> str:
    return re.sub(
        r"<[^>]+>", " ", re.sub(r"<(svg|style).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    )


def test_published_numbers_give_every_figure_they_allow_and_all_tables(paper: Path) -> None:
    for number in ("02", "05", "06", "08", "09", "10", "12"):
        assert all((paper / f"figure_{number}.{kind}").stat().st_size > 100 for kind in FORMATS)
    assert all(
        (paper / f"table_{number}.{kind}").exists()
        for number in range(1, 7)
        for kind in ("csv", "html")
    )
    assert "Figure 13: the study has no log" in text(paper / "index.html")


def test_a_measured_study_gives_its_own_figures_and_says_why_not_the_others(measured: Path) -> None:
    drawn = {path.stem for path in measured.glob("figure_*.svg")}
    assert drawn == {f"figure_{number}" for number in ("02", "06", "07", "08", "09", "12", "13")}
    said = text(measured / "index.html")
    assert "Figure 5: one conditioning only (adaLN-Zero): sweep several for one model." in said
    assert "Figure 10: one number of sampling steps only (50): score others." in said
    assert "mini-DiT-H/2: not trained" in said


def test_the_page_holds_what_a_reader_asks_for(measured: Path) -> None:
    said = text(measured / "index.html")
    for expected in (
        "Does &lt;the score&gt; follow Gflops?",
        "+ Train mini-DiT-S/8",
        "0.1 CPU hours",
        "n = 12 models at step 600",
        "Spearman",
        "protocol digits1k_0a1b2c3d",
        "not comparable: the studies differ in features (digits-cnn-1, inception)",
        "a / Gflops^b + c over 12 models",
        "batch_size",
        "from 72 runs of 36 models over seeds",
    ):
        assert expected in said


def test_tables_never_call_another_extractors_score_plain_fid(measured: Path) -> None:
    for path in measured.glob("table_*.csv"):
        assert "FID" not in set(pd.read_csv(path).columns)


def test_tables_print_what_the_paper_prints() -> None:
    grid = printed.printed("table_4", PAPER).set_index(["Model", "Steps", "Block"])["FID"]
    assert grid["DiT-S/8", "400,000", "adaLN-Zero"] == "153.60"
    assert grid["DiT-XL/2", "7,000,000", "adaLN-Zero"] == "9.62"
    best = printed.printed("table_2", PAPER).iloc[-1]
    assert best[["Guidance", "FID", "sFID", "Inception Score", "Precision", "Recall"]].tolist() == [
        "1.5",
        "2.27",
        "4.60",
        "278.24",
        "0.83",
        "0.57",
    ]
    assert printed.printed("table_6", PAPER).set_index("Model").loc["ADM"].tolist() == [
        "307",
        "1120",
        "1983",
    ]


def test_the_same_table_gives_the_same_files(paper: Path, tmp_path: Path) -> None:
    with style.theme():
        fig = Figure()
        layout.draw("figure_08", PAPER, fig)
        style.stamp(fig, f"peebles2023, table {tables.digest(PAPER)}")
        report.save(fig, tmp_path / "figure_08")
    for path in paper.glob("figure_08.*"):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (digits()[:0], "no fid of a model with size and patch"),
        (digits()[:15], "no metric has 3 models at one step"),
        (pd.concat([digits(), digits().assign(protocol="other")]), "protocol differs on one axis"),
    ],
    ids=["empty", "single point", "two protocols"],
)
def test_a_poor_table_still_gives_a_page_that_says_why(
    table: pd.DataFrame, says: str, tmp_path: Path
) -> None:
    assert says in text(report.write("digits", table, None, None, tmp_path, {}))


def test_scores_under_a_stray_protocol_are_counted() -> None:
    stray = digits()[:1].assign(protocol="other")
    assert report.left_out(pd.concat([digits(), stray])) == [
        "Not in the main figures: 1 scores under other."
    ]


def test_one_of_two_protocols_can_be_chosen(tmp_path: Path) -> None:
    last = digits()[lambda rows: rows["metric"].eq("fid") & rows["step"].eq(600)]
    both = pd.concat([last, last.assign(protocol="other")])
    assert "protocol other" in text(
        report.write("digits", both, None, None, tmp_path, {"protocol": "other"})
    )


def test_two_studies_side_by_side(tmp_path: Path) -> None:
    other = digits(seeds=(0, 1, 2), draw=5).assign(study="other")
    said = text(report.compare(digits(seeds=(0, 1, 2)), other, tmp_path, {}))
    assert "12 models are in both" in said and "within noise" in said
    assert len(pd.read_csv(tmp_path / "comparison.csv")) == 12


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_page_in_a_browser(measured: Path, tmp_path: Path, width: int) -> None:
    page = measured / "index.html"
    assert not re.search(r'(?:src|href)="(?!#|data:)|url\((?!#)|@import', page.read_text())
    (tmp_path / "probed.html").write_text(page.read_text().replace("</body>", PROBE + "</body>"))
    ran = subprocess.run(
        [
            str(CHROMIUM),
            *QUIET,
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},900",
            (tmp_path / "probed.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in ran.stderr
    found = re.search(r'data-probe="([^"]*)"', ran.stdout)
    assert found, ran.stderr[-500:]
    probe = json.loads(found[1].replace("&quot;", '"'))
    assert probe["requests"] == [] and probe["overflow"] <= 0
    assert len(probe["figures"]) == 7 and all(w > 300 and h > 100 for w, h in probe["figures"])


def test_notebooks_run_and_define_nothing(tmp_path: Path) -> None:
    """All of them in one kernel, one after another: starting a kernel for each would take ten times as long."""
    paths = sorted((Path(analysis.__file__).parent / "notebooks").glob("*.py"))
    books = [jupytext.read(path) for path in paths]
    assert len(paths) == 10
    assert not any(
        re.search(r"^\s*(def|class) |lambda", path.read_text(), re.MULTILINE) for path in paths
    )
    together = nbformat.v4.new_notebook(cells=[cell for book in books for cell in book.cells])
    NotebookClient(together, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    images = [
        out
        for cell in together.cells
        for out in cell.get("outputs", [])
        if "image/png" in out.get("data", {})
    ]
    assert len(images) >= 8
