"""Jobs of this machine: how many run at a time, what reaches them, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from helpers import ROOT, environment, finished, run_verb, started, tiny_run, tiny_sweep, written

from harness.base.files import append_lines
from harness.base.locks import is_claimed
from harness.launch import local
from harness.launch.jobs import cancel, query_jobs
from harness.launch.local_queue import MODULE, Process, processes
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.plan import newest
from harness.study.store import Store

# Longer than any test: it ends by a signal alone.
ENDLESS = tiny_sweep(runs=(tiny_run(), tiny_run(seed=1)), steps=(10_000_000,), protocols=())


def until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300  # a guard against waiting for ever, no measurement
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def jobs_of(store: Store) -> dict[tuple[str, str], Process]:
    inside = store.root.resolve()
    return {key: p for key, p in processes().items() if p.folder.is_relative_to(inside)}


def logged(store: Store, sweep: Sweep = ENDLESS) -> list[str]:
    """The runs that have trained a few steps."""
    return [
        run.id
        for run in sweep.runs
        if any(log.read_bytes().count(b"\n") > 1 for log in store.logs(run))
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store without a process at its end."""
    made = Store(tmp_path / "store")
    yield made
    for process in jobs_of(made).values():
        os.kill(process.pid, signal.SIGKILL)


def test_ctrl_c_on_a_follower_saves_every_training(tmp_path: Path, store: Store) -> None:
    words = ("launch", written(ENDLESS, tmp_path), "--store", store.root, "--follow")
    command = [sys.executable, "-m", "harness", *map(str, words), "--workers", "2"]
    pipe = subprocess.PIPE
    follower = subprocess.Popen(
        command,
        env=environment(),
        cwd=ROOT,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    with follower:
        try:
            until(lambda: len(logged(store)) == 2)
            os.killpg(follower.pid, signal.SIGINT)  # as a terminal does
            status, _, err = finished(follower, 300)
        finally:
            follower.kill()
    assert status == 130 and "they save first" in err and "Traceback" not in err
    assert all(newest(run, store) > 0 for run in ENDLESS.runs)
    assert not any(is_claimed(store.train_claim(run)) for run in ENDLESS.runs)
    until(lambda: not jobs_of(store))  # the queue of the launch ends after its jobs


def test_as_many_jobs_run_as_there_are_workers_and_the_rest_waits(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (written(ENDLESS, tmp_path), "--store", store.root)
    status, out, err = finished(started("launch", *words))  # whose output the jobs do not hold open
    assert status == 0 and "2 jobs submitted" in out, err
    until(lambda: logged(store))
    first, second = ENDLESS.runs
    assert logged(store) == [first.id] and len(jobs_of(store)) == 2, "a queue and a job"
    assert [query_jobs(store).by_task[run.id].state for run in (first, second)] == [
        "RUNNING",
        "PENDING",
    ]
    assert "2 jobs cancelled" in run_verb(capsys, "cancel", *words, "--yes")[1]
    until(lambda: not jobs_of(store))
    assert newest(first, store) > 0 and not store.logs(second), "one saved, the other never began"
    assert query_jobs(store).by_task == {}


def test_a_job_gets_the_setup_the_variables_and_the_gpus_that_are_visible(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    folder = store.submissions() / "launch"
    folder.mkdir(parents=True)
    job = partial(os.system, f"echo $SET $GIVEN $CUDA_VISIBLE_DEVICES > {tmp_path}/seen")
    cluster = Cluster(setup=["export SET=one"], environment={"GIVEN": "two words"})
    (handle,) = local.submit([job], [cluster], "name", folder, ROOT)
    assert handle
    until((tmp_path / "seen").exists)  # before it begins, no job is there either
    until(lambda: not jobs_of(store))
    assert (tmp_path / "seen").read_text() == "one two words 3\n", handle.log.read_text()


def test_jobs_side_by_side_take_gpus_of_their_own(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "7")
    two = Cluster(workers=2)
    with local.running(store, two):
        first = os.environ["LOCAL_RANK"]
        with local.running(store, two):
            assert (first, os.environ["LOCAL_RANK"]) == ("0", "1")


def test_a_job_that_is_killed_says_so_in_its_log(store: Store) -> None:
    folder = store.submissions() / "launch"
    folder.mkdir(parents=True)
    job = partial(os.system, "kill -9 $PPID")
    (handle,) = local.submit([job], [Cluster()], "name", folder, ROOT)
    assert handle
    until(lambda: not any(number for _, number in jobs_of(store)) and handle.log.exists())
    until(lambda: "ended with SIGKILL" in handle.log.read_text())


def test_cancel_ends_own_processes_only(store: Store) -> None:
    """A pid of the ledger may be anybody's by now, and so may words in a command line."""
    shared = {"executor": "local", "name": "tiny", "retry": False, "log": "", "at": 0}
    sleep = ["-c", "import time; time.sleep(60)"]
    strangers = [
        subprocess.Popen([sys.executable, *sleep, *words])
        for words in (["submitit"], [MODULE, "/elsewhere/L2", "0"])
    ]
    append_lines(
        store.ledger(),
        [
            {"task": "a", "job": str(strangers[0].pid), "launch": "L1", **shared},
            {"task": "b", "job": str(strangers[1].pid), "launch": "L1", **shared},
        ],
    )
    try:
        assert query_jobs(store).by_task == {} and cancel(["a", "b"], store) == []
        time.sleep(0.2)
        assert [stranger.poll() for stranger in strangers] == [None, None]
    finally:
        for stranger in strangers:
            stranger.kill()
            stranger.wait()
