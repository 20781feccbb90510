"""A sweep by its commands: planned, run, repaired, extended, launched, collected; its faults."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import (
    ROOT,
    cluster_file,
    curve,
    do,
    finished,
    run_verb,
    started,
    tiny_protocol,
    tiny_run,
    tiny_sweep,
    written,
)

from harness.base.files import read_json, read_lines, write_json
from harness.base.locks import holder, is_claimed
from harness.launch.failures import failures
from harness.launch.progress import Bar
from harness.launch.run import workers
from harness.launch.worker import Share
from harness.metrics import METRICS
from harness.spec import Protocol, Sweep
from harness.study.cluster import Cluster
from harness.study.columns import COLUMNS, LOG_COLUMNS
from harness.study.plan import missing, newest
from harness.study.store import Store
from harness.study.tasks import Train

MODELS = ("mini-DiT-S/8", "mini-DiT-S/4")
BOTH = tuple(tiny_run(model=model) for model in MODELS)


def tables(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The scores and the log that collect wrote."""
    return tuple(
        list(csv.DictReader((folder / name).open(newline="")))
        for name in ("tiny.csv", "tiny_log.csv")
    )  # type: ignore[return-value]


def records(store: Store) -> dict[str, int]:
    """When each record was written."""
    return {
        str(path.relative_to(store.root)): path.stat().st_mtime_ns
        for path in store.root.glob("runs/*/evals/*/*.json")
    }


def test_the_life_of_a_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, out = Store(tmp_path / "store"), tmp_path / "results"
    sweep, longer = tiny_sweep(runs=BOTH), tiny_sweep(runs=BOTH, steps=(10, 20, 30))
    at = ("--store", store.root)
    words = (written(sweep, tmp_path), *at)

    status, text, _ = run_verb(capsys, "plan", *words)
    assert (
        status == 0
        and text.count("never trained") == 2
        and "6 tasks missing" in text
        and not store.root.exists()
    )

    status, text, progress = run_verb(capsys, "run", *words)
    assert status == 0 and "6 of 6 tasks done" in text and "100%" in progress
    assert run_verb(capsys, "plan", *words)[1].startswith("tiny: nothing is missing")
    assert "nothing to do" in run_verb(capsys, "run", *words)[1]
    assert len(records(store)) == 4 and all(len(store.logs(run)) == 1 for run in BOTH)

    lost = store.record(BOTH[0], 20, sweep.sampling[0])
    before = records(store)
    lost.unlink()
    assert [task.reason for task in missing(sweep, store)] == ["not scored; from kept features"]
    assert run_verb(capsys, "run", *words)[0] == 0
    after = records(store)
    assert {name for name in after if after[name] != before[name]} == {
        str(lost.relative_to(store.root))
    }
    assert all(len(store.logs(run)) == 1 for run in BOTH), "no retraining"

    words = (written(longer, tmp_path), *at)
    plan = json.loads(run_verb(capsys, "plan", *words, "--json")[1])
    assert {run["state"] for run in plan["runs"]} == {"going on"} and {
        run["resume"] for run in plan["runs"]
    } == {20}
    assert run_verb(capsys, "run", *words)[0] == 0
    assert [read_lines(log)[0][0]["start"] for log in store.logs(BOTH[0])] == [0, 20]
    assert [step for step, *_ in curve(store, BOTH[0])] == list(range(1, 31))
    state = json.loads(run_verb(capsys, "status", *words, "--json")[1])
    assert all(
        run["state"] == "done" and run["step"] == 30 and run["scores"] == 3 for run in state["runs"]
    )
    assert "2 of 2 runs are done" in run_verb(capsys, "status", *words)[1]

    status, text, said = run_verb(capsys, "collect", *words, "--out", out)
    scores, log = tables(out)
    count = len(read_json(store.record(BOTH[0], 10, sweep.sampling[0]))["values"])
    assert status == 0 and said == "" and f"{6 * count} values" in text and len(scores) == 6 * count
    assert (
        list(scores[0]) == [*COLUMNS, "tokens"] and list(log[0]) == LOG_COLUMNS and len(log) == 60
    )
    first = next(row for row in scores if row["metric"] == "fid")
    assert (
        first
        | {"model": MODELS[0], "size": "S", "patch": "8", "step": "10", "images": "80", "n": "64"}
        == first
    )
    assert (first["study"], first["source"], first["features"]) == (
        "tiny",
        "measured",
        "digits-cnn-1",
    )
    assert (
        float(first["value"])
        == read_json(store.record(BOTH[0], 10, sweep.sampling[0]))["values"]["fid"]
    )
    with np.load(out / "tiny_samples.npz", allow_pickle=False) as previews:
        assert previews["images"].shape[:2] == (2, len(previews["labels"])) and previews[
            "model"
        ].tolist() == list(MODELS)

    shorter = (written(tiny_sweep(runs=BOTH[:1]), tmp_path), *at)
    assert run_verb(capsys, "plan", *shorter)[1].startswith("tiny: nothing is missing"), (
        "an orphan is not a task"
    )


def test_a_torn_log_line_is_reported_and_the_rest_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, words = (
        Store(tmp_path / "store"),
        (written(tiny_sweep(protocols=()), tmp_path), "--store", tmp_path / "store"),
    )
    assert run_verb(capsys, "run", *words)[0] == 0
    (log,) = store.logs(tiny_run())
    lines = log.read_text().splitlines()
    torn = max(number for number, line in enumerate(lines, 1) if '"loss"' in line)
    lines[torn - 1] = lines[torn - 1][:-20]
    log.write_text("\n".join([*lines, ""]))
    status, _, warning = run_verb(capsys, "collect", *words, "--out", tmp_path)
    assert status == 0 and f"{log}:{torn}: " in warning and "line skipped" in warning
    assert len(tables(tmp_path)[1]) == 19


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda path: write_json(path, read_json(path) | {"schema": 99}),
            "has schema 99, this harness reads up to",
        ),
        (
            lambda path: write_json(path, read_json(path) | {"step": 20}),
            "is the record of another cell",
        ),
    ],
)
def test_a_record_that_is_not_trusted_stops_collect(
    spoil: Any, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, store = tiny_sweep(steps=(10,)), Store(tmp_path / "store")
    write_json(store.run(sweep.runs[0]) / "run.json", sweep.runs[0].canonical())
    path = store.record(sweep.runs[0], 10, sweep.sampling[0])
    write_json(
        path,
        {
            "schema": 1,
            "run": sweep.runs[0].id,
            "step": 10,
            "protocol": sweep.sampling[0].id,
            "values": {},
        },
    )
    spoil(path)
    status, _, err = run_verb(
        capsys,
        "collect",
        written(sweep, tmp_path),
        "--store",
        store.root,
        "--out",
        tmp_path / "out",
    )
    assert status == 1 and fault in err and str(path) in err and err.count("\n") == 1
    assert not list((tmp_path / "out").glob("*")), "no half of a table"


def test_two_runs_at_once_do_the_work_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    words = ("run", written(tiny_sweep(runs=BOTH), tmp_path), "--store", store.root)
    other = started(*words)
    until(lambda: any(store.logs(run) for run in BOTH))
    ends = [run_verb(capsys, *words), finished(other)]
    assert [status for status, *_ in ends] == [0, 0], ends
    for run in BOTH:
        steps = Counter(
            line["step"] for log in store.logs(run) for line in read_lines(log)[0] if "loss" in line
        )
        assert set(steps.values()) == {1} and len(steps) == 20
    assert len(records(store)) == 4


def test_workers_do_the_same_work_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, single, several = tiny_sweep(runs=BOTH), Store(tmp_path / "1"), Store(tmp_path / "2")
    path = written(sweep, tmp_path)
    assert run_verb(capsys, "run", path, "--store", single.root)[0] == 0
    status, out, err = run_verb(capsys, "run", path, "--store", several.root, "--workers", 2)
    assert status == 0 and "6 of 6 tasks done" in out and "100%" in err
    for run in BOTH:
        assert curve(single, run) == curve(several, run)
        values = [
            read_json(s.record(run, 20, sweep.sampling[0]))["values"] for s in (single, several)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("cluster", ["debug", "local"])
def test_launch_follows_until_nothing_is_missing(
    cluster: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sweep, store = tiny_sweep(steps=(10,)), Store(tmp_path / "store")
    words = (written(sweep, tmp_path), "--store", store.root, "--cluster", cluster)
    status, out, err = run_verb(capsys, "launch", *words, "--follow")
    assert status == 0, err
    assert [line.split(":")[0] for line in out.splitlines() if line.startswith("submitted")] == [
        f"submitted {sweep.runs[0].id}",
        f"submitted {sweep.runs[0].id}@10",
    ]
    assert missing(sweep, store) == [] and len(records(store)) == 1
    lines, _ = read_lines(store.ledger())
    assert [line["executor"] for line in lines] == [cluster] * 2
    status, out, _ = run_verb(capsys, "launch", *words)
    assert status == 0 and out.startswith("0 jobs submitted"), "asked again, it does nothing"


def obstruct(store: Store, step: int, protocol: Protocol) -> None:
    """Puts a file where the feature shards of a score belong: no check sees it before the task."""
    path = store.shards(tiny_run(), step, protocol)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_a_task_that_failed_three_times_is_given_up_until_retried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep: Sweep = tiny_sweep(steps=(10,))
    words = (written(sweep, tmp_path), "--store", tmp_path / "store", "--cluster", "debug")
    store = Store(tmp_path / "store")
    obstruct(store, 10, tiny_protocol())

    def tries() -> int:
        return sum(
            "job" in line and "@10" in line["task"] for line in read_lines(store.ledger())[0]
        )

    status, _, err = run_verb(capsys, "launch", *words, "--follow")
    assert status == 1 and tries() == 3 and f"given up: {sweep.runs[0].id}@10:tiny_" in err
    assert run_verb(capsys, "launch", *words)[1].startswith("0 jobs submitted") and tries() == 3
    (run,) = json.loads(run_verb(capsys, "status", *words, "--json")[1])["runs"]
    assert run["state"] == "failed" and len(run["given_up"]) == 1
    assert run_verb(capsys, "launch", *words, "--retry")[0] == 0 and tries() == 4


def test_a_failure_does_not_stop_the_rest_and_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocols = (tiny_protocol(name="bad", seed=7), tiny_protocol(name="good"))
    sweep, store = tiny_sweep(protocols=protocols), Store(tmp_path / "store")
    for step in sweep.steps:
        obstruct(store, step, protocols[0])
    status, out, err = run_verb(capsys, "run", written(sweep, tmp_path), "--store", store.root)
    assert status == 1 and "3 of 5 tasks done" in out and "Traceback" not in err
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2 and all(protocols[0].sampled in line for line in failed)


def until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300  # a guard against waiting for ever, no measurement
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> list[int]:
    """The processes that this one has started."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(x) for path in tasks.glob("*/children") for x in path.read_text().split()]


def test_a_bug_ends_its_task_alone_with_its_traceback_in_a_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> dict[str, float]:
        raise KeyError("sigma\nof another line")

    monkeypatch.setitem(METRICS, "fid", replace(METRICS["fid"], compute=broken))
    sweep, store = tiny_sweep(), Store(tmp_path / "store")
    words = (written(sweep, tmp_path), "--store", store.root)
    status, out, err = run_verb(capsys, "run", *words)
    assert status == 1 and "1 of 3 tasks done" in out and "Traceback" not in err
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    log = store.root / "failures.log"
    assert len(failed) == 2 and all("KeyError" in line and str(log) in line for line in failed)
    assert log.read_text().count("Traceback") == 2 and "in broken" in log.read_text()
    found = failures(store)
    assert found.keys() == {task.id for task in missing(sweep, store)}
    assert all(
        line["node"] and line["date"] and "KeyError" in line["error"] for line in found.values()
    )
    monkeypatch.undo()
    assert run_verb(capsys, "run", *words)[0] == 0, "run again, it tries again"


def test_running_out_of_memory_names_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*_: object) -> dict[str, float]:
        return {"fid": float(torch.empty(1 << 60).sum())}

    monkeypatch.setitem(METRICS, "fid", replace(METRICS["fid"], compute=greedy))
    words = (written(tiny_sweep(steps=(10,)), tmp_path), "--store", tmp_path / "store")
    status, _, err = run_verb(capsys, "run", *words)
    assert status == 1 and "set a smaller microbatch (training) or sampling_batch" in err
    assert "in greedy" in (tmp_path / "store" / "failures.log").read_text()


def test_a_worker_that_is_killed_costs_its_task_one_attempt_and_no_worker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = (tiny_run(), tiny_run(seed=1))
    sweep, store = tiny_sweep(runs=runs, steps=(200,), protocols=()), Store(tmp_path / "store")
    words = ("run", written(sweep, tmp_path), "--store", store.root)
    process = started(*words, "--workers", 2)
    until(lambda: len(children(process.pid)) == 2)
    os.kill(children(process.pid)[0], signal.SIGKILL)  # before it has begun a task
    until(lambda: any(store.logs(run) for run in runs))
    begun = next(run for run in runs if store.logs(run))
    os.kill(int(holder(store.train_claim(begun)).split()[1]), signal.SIGKILL)
    status, out, err = finished(process)
    assert status == 1 and "1 of 2 tasks done" in out, (out, err)
    assert "a worker ended with SIGKILL before it began a task" in err
    assert f"failed: {begun.id}: its process ended with SIGKILL" in err
    assert failures(store).keys() == {begun.id} == {task.id for task in missing(sweep, store)}
    assert run_verb(capsys, *words)[0] == 0 and missing(sweep, store) == []


def test_each_worker_is_given_a_gpu_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that reports its local rank in place of its work."""
    stub = tmp_path / "python"
    stub.write_text("""#!/bin/sh\necho "[\\"environment\\", \\"$LOCAL_RANK\\"]"\n""")
    stub.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(stub))
    share = Share(tiny_sweep(), Store(tmp_path), Cluster(), (), "batch")
    with Bar([]) as bar, workers(share, 3, bar) as crew:
        for worker in crew:
            worker.listener.join()
        assert [worker.problem for worker in crew] == ["0", "1", "2"]


def test_workers_whose_parent_is_killed_save_and_end(tmp_path: Path) -> None:
    sweep, store = tiny_sweep(steps=(10_000_000,), protocols=()), Store(tmp_path / "store")
    (run,) = sweep.runs
    words = ("run", written(sweep, tmp_path), "--store", store.root, "--workers", 2)
    process = started(*words)
    until(lambda: any(log.read_bytes().count(b"\n") > 1 for log in store.logs(run)))
    process.kill()
    until(lambda: not is_claimed(store.train_claim(run)))
    assert newest(run, store) > 0
    finished(process)  # nobody holds its output open


def test_scores_survive_the_loss_of_their_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, store = tiny_sweep(steps=(10,)), Store(tmp_path / "store")
    cluster = cluster_file(tmp_path, store=str(store.root), executor="local", workers=1)
    words = (written(sweep, tmp_path), "--cluster", cluster)
    assert run_verb(capsys, "run", *words)[0] == 0
    shutil.rmtree(store.run(sweep.runs[0]) / "checkpoints")
    assert "nothing to do" in run_verb(capsys, "run", *words)[1]


def test_a_job_that_is_run_again_goes_on_past_the_steps_it_reached(tmp_path: Path) -> None:
    store, run = Store(tmp_path), tiny_run()
    for steps in (
        (10,),
        (15,),
        (10, 20),
    ):  # the last is what a requeued job was given when it was launched
        do(Train(run, steps, 0, ""), store)
    assert [read_lines(log)[0][0]["start"] for log in store.logs(run)] == [0, 10, 15]
