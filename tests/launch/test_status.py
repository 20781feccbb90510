"""What status, cancel, logs and prune make of a queue and a ledger; none of it writes but prune."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from helpers import cluster_file, refused, run_verb, tiny_run, tiny_sweep, train_all, tree, written

from harness.base.files import write_json
from harness.launch.ledger import given
from harness.launch.submit import submit
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store

RUNS = tuple(tiny_run(seed=seed) for seed in range(3))
SWEEP = tiny_sweep(runs=RUNS, steps=(10,), protocols=())


class Study:
    """A sweep launched on a fake Slurm."""

    def __init__(self, folder: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.slurm, self.capsys = folder, slurm, capsys
        self.store = Store(folder / "store")
        self.cluster = cluster_file(folder, executor="slurm", store=str(self.store.root))

    def launch(self, sweep: Sweep = SWEEP) -> list[str]:
        cluster = Cluster(executor="slurm", store=str(self.store.root))
        code = self.store.code("abc") / "harness"
        code.mkdir(parents=True, exist_ok=True)
        (code / "__init__.py").touch()
        submit(sweep.name, partial(missing, sweep, self.store), self.store, cluster, code.parent)
        return [line["job"] for line in given(self.store).values()]

    def tell(self, verb: str, *words: object, sweep: Sweep = SWEEP) -> str:
        path = written(sweep, self.folder)
        status, out, err = run_verb(self.capsys, verb, path, "--cluster", self.cluster, *words)
        assert status == 0, err
        return out

    def status(self, sweep: Sweep = SWEEP) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.tell("status", "--json", sweep=sweep))
        return found

    def log(self, job: str) -> Path:
        return next(Path(x["log"]) for x in given(self.store).values() if x["job"] == job)


@pytest.fixture
def study(tmp_path: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]) -> Study:
    return Study(tmp_path, slurm, capsys)


def test_status_shows_the_tries_and_keeps_the_last_error_until_progress(study: Study) -> None:
    first, *others = study.launch()
    study.slurm.set(first, "FAILED", "node1", "10:00")
    study.log(first).write_text("ImportError: no x\nsrun: error: node1: task 0: Exited\n")
    row = study.status()["runs"][0]
    assert (row["state"], row["tries"], row["error"]) == ("failed", 1, "ImportError: no x")
    again = study.launch()[0]
    row = study.status()["runs"][0]
    assert again != first and (row["state"], row["tries"]) == ("queued", 2)
    assert row["error"] == "ImportError: no x" and row["error_task"] == row["run"]
    task = row["run"]
    words = ("--cluster", study.cluster)
    assert run_verb(study.capsys, "logs", task, *words, "--previous")[1].startswith("ImportError")
    assert run_verb(study.capsys, "logs", task, *words, "--job", first)[1].startswith("ImportError")
    assert "has written no" in refused(study.capsys, "logs", task, *words)
    assert f"{first}, {again}" in refused(study.capsys, "logs", task, *words, "--job", "99")
    assert "--rank 3" in refused(study.capsys, "logs", task, *words, "--rank", 3)
    study.slurm.set(others[0], "SUSPENDED", "node1", "1:00")
    study.slurm.set(others[1], "RUNNING", "node1", "1:00")
    assert [run["state"] for run in study.status()["runs"]] == ["queued", "suspended", "training"]


def test_scoring_is_no_queue_and_its_errors_name_the_task(study: Study) -> None:
    sweep = tiny_sweep(runs=RUNS[:1], steps=(10,))
    train_all(sweep, study.store)
    (job,) = study.launch(sweep)
    study.slurm.set(job, "RUNNING", "node1", "1:00")
    assert study.status(sweep)["runs"][0]["state"] == "scoring"
    study.slurm.set(job, "FAILED", "node1", "10:00")
    study.log(job).write_text("reference is missing\n")
    (row,) = study.status(sweep)["runs"]
    assert row["state"] == "failed" and row["error_task"].startswith(f"{RUNS[0].id}@10:tiny_")
    assert "@10:tiny_" in study.tell("status", sweep=sweep)


def test_a_silent_job_shows(study: Study) -> None:
    (job, *_) = study.launch()
    study.slurm.set(job, "RUNNING", "node1", "1:00:00")
    study.log(job).write_text(" 10% step 1\n")
    assert "silent for" not in study.tell("status")
    os.utime(study.log(job), (0, 0))
    assert "training, silent for" in study.tell("status")


def test_jobs_of_a_model_that_was_removed_are_shown_and_ended_on_asking(study: Study) -> None:
    jobs = study.launch()
    fewer = tiny_sweep(runs=RUNS[:2], steps=(10,), protocols=())
    (left,) = study.status(fewer)["removed"]
    assert left == {"task": RUNS[2].id, "job": jobs[2], "state": "PENDING"}
    assert "the sweep no longer asks for" in study.tell("status", sweep=fewer)
    assert "--end-removed ends it" in study.tell("launch", "--dirty", sweep=fewer)
    assert len(study.slurm.jobs) == 3
    study.tell("launch", "--dirty", "--end-removed", sweep=fewer)
    assert study.slurm.calls("scancel") == [f"scancel --quiet {jobs[2]}"]
    study.launch()
    study.tell("cancel", "--yes", sweep=fewer)
    assert not study.slurm.jobs


def test_a_copied_store_was_never_tried(study: Study, tmp_path: Path) -> None:
    for job in study.launch():
        study.slurm.forget(job)
    assert {run["state"] for run in study.status()["runs"]} == {"failed"}
    shutil.move(study.store.root, tmp_path / "copy")
    study.cluster = cluster_file(tmp_path, executor="slurm", store=str(tmp_path / "copy"))
    assert {run["state"] for run in study.status()["runs"]} == {"new"}


def test_status_only_reads(study: Study) -> None:
    study.launch()
    before = tree(study.store.root)
    times = {path: path.stat().st_mtime_ns for path in study.store.root.rglob("*")}
    study.tell("status")
    assert tree(study.store.root) == before
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_what_is_left_alone_is_counted_and_the_store_is_named(study: Study) -> None:
    for _ in range(3):
        for job in study.launch():
            study.slurm.forget(job)
    out = study.tell("launch", "--dirty")
    assert out.startswith(f"0 jobs submitted, 0 already queued or running, in {study.store.root}")
    assert "3 not submitted" in out and "--retry" in out


def test_a_refused_follower_does_not_deny_the_jobs(study: Study) -> None:
    study.slurm.write("LIMIT", "3")
    path = written(SWEEP, study.folder)
    words = ("launch", path, "--cluster", study.cluster, "--dirty", "--detach")
    status, out, err = run_verb(study.capsys, *words)
    assert status == 1 and out.count("submitted mini") == 3
    assert "3 jobs submitted, but no follower: " in err and "AssocMaxSubmitJobLimit" in err


def test_hours_are_known_by_user_and_state(study: Study) -> None:
    train_all(tiny_sweep(runs=RUNS[:1], steps=(10,), protocols=()), study.store)
    status = study.status()
    assert status["used_hours_by_state"]["done"] == pytest.approx(status["totals"]["used_hours"])
    assert status["used_hours_by_state"]["new"] == 0
    assert set(status["used_hours_by_user"]) == {"unknown"}


def test_prune_frees_what_no_job_and_no_verb_needs(study: Study) -> None:
    jobs = study.launch()
    study.slurm.forget(jobs[0])
    kept = study.store.submissions() / given(study.store)[RUNS[1].id]["launch"]
    assert "nothing to remove" in study.tell("prune", "--yes"), "its jobs wait"
    train_all(SWEEP, study.store)
    left = study.store.run(RUNS[0]) / "checkpoints" / ".state.safetensors.123"
    left.write_text("torn")
    study.slurm.write("QUEUE", "")
    before = tree(study.store.root)
    study.capsys.readouterr()
    out = study.tell("prune", "--yes")
    assert "1 launches" in out and "1 snapshots" in out and "1 temporary files" in out
    gone = before - tree(study.store.root)
    assert not kept.exists() and not left.exists() and not study.store.code("abc").exists()
    assert not any(name.endswith(("ema.safetensors", "state.safetensors")) for name in gone)
    assert "nothing to remove" in study.tell("prune") and "--states would free" in study.tell(
        "prune"
    )
    assert "3 states" in study.tell("prune", "--states", "--yes")
    assert {run["state"] for run in study.status()["runs"]} == {"done"}


def test_prune_frees_samples_where_asked_that_no_missing_score_needs(study: Study) -> None:
    sweep = tiny_sweep(runs=RUNS[:1], steps=(10, 20))
    run, (protocol,) = RUNS[0], sweep.sampling
    train_all(sweep, study.store)
    write_json(study.store.record(run, 10, protocol), {"n": 64}, checksum=True)
    old = study.store.record(run, 10, protocol).with_suffix("")
    old.mkdir()  # where earlier versions had shards in progress
    for step in (10, 20):
        study.store.shards(run, step, protocol).mkdir(parents=True)
        (study.store.shards(run, step, protocol) / "0000").write_text("features")
    assert "1 features of finished scores" in study.tell("prune", "--yes", sweep=sweep)
    assert not old.exists() and study.store.shards(run, 10, protocol).exists()
    assert "--samples would free 8B more: kept" in study.tell("prune", sweep=sweep)
    assert "1 folders of kept samples" in study.tell("prune", "--samples", "--yes", sweep=sweep)
    assert not study.store.shards(run, 10, protocol).exists()
    assert study.store.shards(run, 20, protocol).exists(), "an evaluation continues from them"
