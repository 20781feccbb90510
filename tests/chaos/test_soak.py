"""Thousands of runs and tasks: memory, open files and threads stay flat. Times are only printed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import pytest
from fake_site import Site
from helpers import cluster_file, finished, started, tiny_protocol, tiny_run, tiny_sweep, written
from trials import temporary_files

pytestmark = pytest.mark.chaos
RUNS = 2000
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


def sweep_of(folder: Path, count: int) -> Path:
    runs = tuple(tiny_run(seed=seed) for seed in range(count))
    folder.mkdir(parents=True, exist_ok=True)
    sweep = tiny_sweep(runs=runs, steps=(1,), protocols=(tiny_protocol(images=4),))
    return written(sweep, folder)


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
    """A store of RUNS finished runs, trained and scored by two workers that are measured."""
    folder = tmp_path_factory.mktemp("soak")
    sweep, store = sweep_of(folder, RUNS), folder / "store"
    timed("plan", sweep, "--store", store)
    process = started("run", sweep, "--store", store, "--workers", 2)
    time.sleep(5)  # until the workers are there
    uses: Uses = {pid: [] for pid in (process.pid, *children(process.pid))}
    with measured(uses):
        status, out, err = finished(process, 7200)
    assert status == 0, err[-2000:]
    print(out.splitlines()[-1])
    for i, found in enumerate(uses.values()):
        if len(found) > 10:
            check_flat(f"run, process {i}", found)
    return folder


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
    store, sweep = tmp_path / "store", sweep_of(tmp_path / "sweep", FOLLOWED)
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
