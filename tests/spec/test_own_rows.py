"""A user's own rows: a network in a file beside the sweep, from the plan to the table."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import ROOT, cluster_file, forget_rows, refused, run_verb

from harness.base.errors import UserError
from harness.launch.job import Job
from harness.models import MODELS
from harness.spec import Run, own_rows, use_rows
from harness.study.store import Store

pytestmark = pytest.mark.usefixtures("no_rows")
SWEEP = """
from pathlib import Path
from harness.spec import Protocol, Run, Sweep, use_rows

use_rows(Path(__file__).with_name("my_rows.py"))
run = Run(model="ConvNet-S", data="digits", batch_size=8, lr=1e-3, precision="fp32")
score = Protocol(
    name="tiny", images=64, sampling_steps=2, guidance_channels=1, decoder="identity",
    features="digits-cnn-1", reference="digits",
)
SWEEP = Sweep(name="mine", runs=run, steps=STEPS, protocols=score)
"""


def write(folder: Path, steps: str = "(2,)") -> Path:
    shutil.copy(ROOT / "tests" / "own_network.py", folder / "my_rows.py")
    path = folder / "mine.py"
    path.write_text(SWEEP.replace("STEPS", steps))
    return path


def test_a_network_of_a_file_is_planned_trained_scored_and_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, cluster = write(tmp_path), cluster_file(tmp_path, store=str(tmp_path / "store"))
    status, text, _ = run_verb(capsys, "plan", sweep, "--cluster", cluster)
    assert status == 0 and "ConvNet-S" in text
    assert run_verb(capsys, "run", sweep, "--cluster", cluster)[0] == 0
    run_verb(capsys, "collect", sweep, "--cluster", cluster, "--out", tmp_path)
    rows = list(csv.DictReader((tmp_path / "mine.csv").open()))
    assert {row["size"] for row in rows} == {"S"} and {row["patch"] for row in rows} == {""}
    net = Run(model="ConvNet-S", data="digits").model_row.build(
        Run(model="ConvNet-S", data="digits").setting
    )
    assert {int(row["params"]) for row in rows} == {sum(p.numel() for p in net.parameters())}
    digest = own_rows.LOADED["my_rows.py"].digest
    (written,) = (tmp_path / "store").glob("runs/ConvNet-S_*/run.json")
    (record,) = (tmp_path / "store").glob("runs/ConvNet-S_*/evals/*/*.json")
    assert json.loads(written.read_text())["rows"] == {"my_rows.py": digest}
    assert json.loads(record.read_text())["versions"]["my_rows.py"] == digest


def test_a_run_does_not_go_on_under_changed_rows_unless_asked_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, cluster = write(tmp_path), cluster_file(tmp_path, store=str(tmp_path / "store"))
    assert run_verb(capsys, "run", sweep, "--cluster", cluster)[0] == 0
    forget_rows()
    write(tmp_path, "(2, 4)")
    with (tmp_path / "my_rows.py").open("a") as file:
        file.write("# another text\n")
    for verb in ("run", "launch"):
        fault = refused(capsys, verb, sweep, "--cluster", cluster)
        assert "began with another my_rows.py" in fault and "--changed-rows" in fault
    assert run_verb(capsys, "run", sweep, "--cluster", cluster, "--changed-rows")[0] == 0
    run_verb(capsys, "collect", sweep, "--cluster", cluster, "--out", tmp_path)
    last = [row for row in csv.DictReader((tmp_path / "mine.csv").open()) if row["step"] == "4"]
    assert all("several versions: my_rows.py" in row["warning"] for row in last)


def test_queued_jobs_carry_a_copy_of_the_rows_and_refuse_a_changed_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write(tmp_path)
    cluster = cluster_file(tmp_path, store=str(tmp_path / "store"), executor="debug")
    assert run_verb(capsys, "launch", sweep, "--cluster", cluster)[0] == 0
    forget_rows()
    (copy,) = (tmp_path / "store" / "jobs").glob("*/rows/my_rows.py")
    (tmp_path / "my_rows.py").unlink()
    folder = copy.parents[1]
    (task,) = json.loads((folder / "launch.json").read_text())["tasks"]
    Job(str(folder), task).load()
    assert "ConvNet-S" in MODELS
    forget_rows()
    copy.write_text(copy.read_text() + "# changed")
    with pytest.raises(SystemExit, match="changed after the launch: run harness launch again"):
        Job(str(folder), task).load()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 +", r"my_rows.py:1: invalid syntax: fix the file of rows"),
        ("\nimport absent_package", r"my_rows.py:2: No module .* \(ModuleNotFoundError\): fix"),
        ("x = 1", r"my_rows.py adds no rows"),
        (
            "from harness.models import MODELS, Model\nMODELS['DiT-S/2'] = Model('mine', 'S')",
            r"my_rows.py replaces DiT-S/2: give rows of yours other names",
        ),
    ],
)
def test_a_file_that_adds_no_rows_is_refused_and_changes_nothing(
    text: str, fault: str, tmp_path: Path
) -> None:
    before = {field: dict(table) for field, table in own_rows.TABLES.items()}
    (tmp_path / "my_rows.py").write_text(text)
    with pytest.raises(UserError, match=fault):
        use_rows(tmp_path / "my_rows.py")
    assert {field: dict(table) for field, table in own_rows.TABLES.items()} == before


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    use_rows(tmp_path / "my_rows.py")
    use_rows(tmp_path / "my_rows.py")  # the same text again
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "my_rows.py").write_text("x = 1")
    with pytest.raises(UserError, match=r"have one name: rename one of them"):
        use_rows(tmp_path / "other" / "my_rows.py")


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("setting.outputs * setting.channels", "3", r"gives \[3, 16, 16\] .* takes \[2, 16, 16\]"),
        ("self.time(t[:, None].float() / 1000)", "0", r"time.weight, time.bias never get a grad"),
        ("self.embed(y)", "self.embed(y) / 0", r"gives numbers that are not finite"),
    ],
)
def test_a_network_that_cannot_be_trained_is_refused_before_anything_starts(
    before: str, after: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, cluster = write(tmp_path), cluster_file(tmp_path, store=str(tmp_path / "store"))
    rows = tmp_path / "my_rows.py"
    rows.write_text(rows.read_text().replace(before, after))
    for verb in ("plan", "run", "launch"):
        assert re.search(fault, refused(capsys, verb, sweep, "--cluster", cluster))
    assert not list(Store(tmp_path / "store").root.glob("runs/*"))


def test_a_run_with_rows_of_a_file_is_shown_once_the_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, store = write(tmp_path), tmp_path / "store"
    assert run_verb(capsys, "run", sweep, "--store", store)[0] == 0
    forget_rows()
    fault = refused(capsys, "show", "ConvNet-S", "--store", store)
    assert "has rows of my_rows.py: name that file by --rows" in fault
    named = ("--store", store, "--rows", tmp_path / "my_rows.py")
    assert run_verb(capsys, "show", "ConvNet-S", *named)[0] == 0
    assert "ConvNet-S" in run_verb(capsys, "list", *named)[1]
