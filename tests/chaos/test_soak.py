"""Thousands of runs and tasks: memory, open files and threads stay flat. Times are only printed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest
from fake_site import Site
from helpers import (
    cluster_file,
    finished,
    score_all,
    started,
    tiny_protocol,
    tiny_run,
    tiny_sweep,
    train_all,
    written,
)
from trials import temporary_files

from harness.base.files import read_json, write_json
from harness.spec import Protocol, Run, Sweep
from harness.study.registry import register
from harness.study.store import Store

pytestmark = pytest.mark.chaos
RUNS = 2000
DONE_HERE = 150  # runs that workers train and score
FOLLOWED = 500  # runs: each has two tasks


class Use(NamedTuple):
    """What a process takes."""

    megabytes: float
    files: int
    threads: int


Uses = dict[int, list[Use]]  # by process


def use(pid: int) -> Use:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    files = len(os.listdir(f"/proc/{pid}/fd"))
    return Use(int(status["VmRSS"].split()[0]) / 1e3, files, int(status["Threads"]))


@contextmanager
def measured(uses: Uses, every: float = 0.5) -> Iterator[None]:
    """Appends what each process takes, again and again."""
    done = Event()

    def look() -> None:
        while not done.wait(every):
            for pid, found in uses.items():
                try:
                    found.append(use(pid))
                except (OSError, KeyError):  # it has ended
                    continue

    thread = Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def check_flat(what: str, found: list[Use]) -> None:
    """Compares the end with the first third: allocators and caches have filled by then."""
    early, late = found[len(found) // 3], found[-1]
    print(f"{what}: {early} → {late}")
    assert late.megabytes < 1.15 * early.megabytes + 8, what
    assert late.files <= early.files + 3 and late.threads <= early.threads + 3, what


def sweep_of(count: int) -> Sweep:
    runs = tuple(tiny_run(seed=seed) for seed in range(count))
    return tiny_sweep(runs=runs, steps=(1,), protocols=(tiny_protocol(images=4),))


def plant(run: Run, store: Store, of: Run, protocol: Protocol) -> None:
    """Gives a run the files of another one: weights as links, the record under its own name."""

    def copy(source: str, target: str) -> None:
        shared = source.endswith(".safetensors")
        os.link(source, target) if shared else shutil.copyfile(source, target)

    shutil.copytree(
        store.run(of),
        store.run(run),
        copy_function=copy,
        ignore=shutil.ignore_patterns("run.json"),
    )
    register(run, store)
    record = store.record(run, 1, protocol)
    write_json(record, read_json(record) | {"run": run.id}, checksum=True)


def timed(*words: object) -> str:
    """stdout of a verb; prints how long it took."""
    began = time.perf_counter()
    status, out, err = finished(started(*words), 600)
    assert status == 0, err
    print(f"{words[0]}: {time.perf_counter() - began:.1f} s")
    return out


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of RUNS runs and its store: one of them was trained and scored, the others copied."""
    folder = tmp_path_factory.mktemp("soak")
    sweep, store = sweep_of(RUNS), Store(folder / "store")
    timed("plan", written(sweep, folder), "--store", store.root)
    first, *others = sweep.runs
    one = replace(sweep, runs=(first,))
    train_all(one, store)
    score_all(one, store)
    for run in others:
        plant(run, store, first, *sweep.sampling)
    return folder


def test_hundreds_of_tasks_leave_the_workers_as_they_were(tmp_path: Path) -> None:
    """Trainings, and then scores: the first of a kind takes its imports' memory."""
    sweep = sweep_of(DONE_HERE)
    work_through(replace(sweep, protocols=()), tmp_path)
    work_through(sweep, tmp_path)


def work_through(sweep: Sweep, folder: Path) -> None:
    store = folder / "store"
    process = started("run", written(sweep, folder), "--store", store, "--workers", 2)
    while process.poll() is None and len(children(process.pid)) < 2:
        time.sleep(0.1)
    uses: Uses = {pid: [] for pid in (process.pid, *children(process.pid))}
    with measured(uses):
        status, out, err = finished(process, 1800)
    assert status == 0, err[-2000:]
    print(out.splitlines()[-1])
    assert len(uses) == 3
    for i, found in enumerate(uses.values()):
        check_flat(f"run, process {i}", found)
    assert not temporary_files(store)


def test_thousands_of_runs_are_planned_shown_and_collected(soaked: Path) -> None:
    words = (soaked / "tiny.py", "--store", soaked / "store")
    assert "nothing is missing" in timed("plan", *words)
    assert f"{RUNS} of {RUNS} runs are done" in timed("status", *words)
    timed("collect", *words, "--out", soaked)
    assert "nothing to do" in timed("run", *words)
    count, rows = sum(1 for _ in (soaked / "store").rglob("*")), (soaked / "tiny.csv").read_text()
    print(f"{count} files, {rows.count(chr(10)) - 1} values")
    assert not temporary_files(soaked / "store")


def test_a_thousand_tasks_through_one_follower(soaked: Path, tmp_path: Path) -> None:
    store, sweep = tmp_path / "store", written(sweep_of(FOLLOWED), tmp_path)
    fields = {"store": str(store), "executor": "slurm", "device": "cpu", "poll_seconds": 0.2}
    cluster = cluster_file(tmp_path, **fields)
    site = Site(tmp_path / "site", soaked / "store", store)
    site.start()
    path = f"{site.folder}:{os.environ['PATH']}"
    process = started("launch", sweep, "--cluster", cluster, "--follow", "--dirty", PATH=path)
    uses: Uses = {process.pid: []}
    try:
        with measured(uses):
            status, out, err = finished(process, 1800)
    finally:
        site.closed.set()
    assert status == 0, err[-2000:]
    submitted = out.count("submitted ")
    print(f"follow: {submitted} submitted, {site.questions} questions to the queue")
    assert submitted == site.count >= 2 * FOLLOWED
    check_flat("follower", uses[process.pid])
    assert "nothing is missing" in timed("plan", sweep, "--store", store)
