"""What a report says beside the numbers: the study's story, its hours, what it lacks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, do, only_training, refused, run_verb, tiny_run, tiny_sweep

from harness.cli.report import find, story
from harness.cli.report_context import sweep_context
from harness.spec import Run, Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.sweep_file import docstring, sweep_names


def table_of(sweep: Sweep, runs: tuple[Run, ...], steps: tuple[int, ...]) -> pd.DataFrame:
    """The columns by which a score is known, of these runs and steps."""
    rows = [(run.id, step, p.id) for run in runs for step in steps for p in sweep.protocols]
    return pd.DataFrame(rows, columns=["run", "step", "protocol"])


def test_a_score_in_the_table_is_not_missing_whatever_the_store_has(tmp_path: Path) -> None:
    sweep, store = tiny_sweep(), Store(tmp_path / "store")
    table = table_of(sweep, sweep.runs, sweep.steps)
    whole = sweep_context(sweep, store, Cluster(), table)
    assert whole.missing == [] and whole.status == "Complete: 1 runs, 2 scores."
    assert whole.cost is None
    part = sweep_context(sweep, store, Cluster(), table[:1])
    assert part.missing == ["mini-DiT-S/8: 1 of 2 scores: never trained; no checkpoint yet"]
    assert part.status == "Incomplete: 1 of 2 scores of 1 runs are missing."


def test_a_thousand_missing_runs_are_a_line_a_model(tmp_path: Path) -> None:
    runs = tuple(tiny_run(seed=seed) for seed in range(300))
    sweep = dataclasses.replace(tiny_sweep(), runs=runs)
    context = sweep_context(sweep, Store(tmp_path), Cluster(), table_of(sweep, (), ()))
    (line,) = context.missing
    assert line.startswith("mini-DiT-S/8: 600 of 600 scores: never trained (300 runs)")


def test_hours_used_are_those_of_the_store_by_model(tmp_path: Path) -> None:
    store, sweep = Store(tmp_path), only_training((4,))
    for task in missing(sweep, store):
        do(task, store)
    seconds = store.read_attempts(sweep.runs[0])[0][0][-1]["seconds"]
    context = sweep_context(sweep, store, Cluster(), table_of(sweep, (), ()))
    assert context.cost is not None
    row = context.cost.set_index("Model").loc["mini-DiT-S/8"]
    assert float(row["Training"].split()[0]) == pytest.approx(seconds, rel=0.1)
    assert row["Runs"] == 1 and row["Training"].endswith(" s")


def test_every_shipped_sweep_asks_a_question_and_explains_it() -> None:
    for name in sweep_names():
        title, abstract = story(docstring(name))
        assert "?" in title and len(title) < 100 and abstract, name


def test_a_study_is_a_sweep_a_path_a_name_in_results_or_the_paper(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").touch()
    (tmp_path / "digits.csv").touch()
    assert find("digits", tmp_path).sweep is not None
    assert find("mine", tmp_path) == find(str(tmp_path / "mine.csv"), Path("elsewhere"))
    assert find("peebles2023", tmp_path).table == ROOT / "results/published/peebles2023.csv"
    none = tmp_path / "none.csv"
    assert "give the path of a CSV" in refused(capsys, "report", none)
    assert "no sweep 'nothing'" in refused(capsys, "report", "nothing", "--results", tmp_path)


@pytest.mark.usefixtures("svg_alone")
def test_several_tables_are_reported_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "results/measured/digits.csv"
    words = ("report", path, "peebles2023", "--results", tmp_path)
    status, out, err = run_verb(capsys, *words)
    page = tmp_path / "report" / "digits-peebles2023" / "index.html"
    assert (status, err) == (0, "") and out.endswith(f"the report: {page}\n")
    text = page.read_text()
    assert "digits: FID (digits-cnn-1" in text and "peebles2023: FID-50K" in text
