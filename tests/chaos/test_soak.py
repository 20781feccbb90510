"""Long lives: thousands of runs planned, trained and collected, a thousand tasks followed; memory and files stay flat."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest
from helpers import cluster_file, finished, started, tiny_protocol, tiny_run, written
from storms import strays, zombies

from harness.spec import Sweep

pytestmark = pytest.mark.chaos
RUNS, FOLLOWED = (int(os.environ.get(name, count)) for name, count in (("SOAK_RUNS", 2000), ("SOAK_FOLLOWED", 500)))  # each of the followed runs is a training and a score


def many(folder: Path, count: int) -> Path:
    runs = tuple(tiny_run(seed=seed) for seed in range(count))
    folder.mkdir(parents=True, exist_ok=True)
    return written(Sweep(name="tiny", runs=runs, steps=(1,), protocols=(tiny_protocol(images=4),)), folder)


def use(pid: int) -> tuple[float, int, int]:
    """MB of memory, open files and threads of a process."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return int(status["VmRSS"].split()[0]) / 1e3, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"])


@contextmanager
def measured(pids: dict[int, list[tuple[float, int, int]]], every: float = 0.5) -> Iterator[None]:
    """What each of the processes takes, again and again while this lasts."""
    done = Event()

    def look() -> None:
        while not done.wait(every):
            for pid, seen in pids.items():
                try:
                    seen.append(use(pid))
                except (OSError, KeyError):  # it has ended
                    continue

    thread = Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def flat(what: str, seen: list[tuple[float, int, int]]) -> None:
    """From the first third on nothing grows that would not fit after a hundred times as long."""
    early, late = seen[len(seen) // 3], seen[-1]
    print(f"{what}: {early[0]:.0f} → {late[0]:.0f} MB, {early[1]} → {late[1]} files, {early[2]} → {late[2]} threads")
    assert late[0] < 1.15 * early[0] + 8 and late[1] <= early[1] + 3 and late[2] <= early[2] + 3, what


def timed(*words: object) -> str:
    began = time.perf_counter()
    status, out, err = finished(started(*words), 600)
    assert status == 0, err
    print(f"{words[0]}: {time.perf_counter() - began:.1f} s")
    return out


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of many finished runs, made by two workers whose memory was watched."""
    folder = tmp_path_factory.mktemp("soak")
    sweep, store = many(folder, RUNS), folder / "store"
    timed("plan", sweep, "--store", store)
    process = started("run", sweep, "--store", store, "--workers", 2)
    time.sleep(5)
    pids: dict[int, list[tuple[float, int, int]]] = {pid: [] for pid in (process.pid, *children(process.pid))}
    with measured(pids):
        status, out, err = finished(process, 3600)
    assert status == 0, err[-2000:]
    print(out.splitlines()[-1])
    for i, seen in enumerate(pids.values()):
        if len(seen) > 10:  # not multiprocessing's tracker that ends before
            flat(f"run, process {i}", seen)
    return folder


def children(pid: int) -> list[int]:
    return [int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_thousands_of_runs_are_planned_shown_and_collected(soaked: Path) -> None:
    words = (soaked / "tiny.py", "--store", soaked / "store")
    assert "nothing is missing" in timed("plan", *words)
    assert f"{RUNS} of {RUNS} runs are done" in timed("status", *words)
    timed("collect", *words, "--out", soaked)
    assert "nothing to do" in timed("run", *words)
    count = sum(1 for _ in (soaked / "store").rglob("*"))
    print(f"{count} files, {len((soaked / 'tiny.csv').read_text().splitlines()) - 1} values")
    assert not strays(soaked / "store")


SBATCH = r"""#!/bin/sh
# Takes a batch script; the queue knows its elements from now on.
number=$(($(cat FOLDER/last 2>/dev/null || echo 0) + 1)); echo $number > FOLDER/last
for script; do :; done
comment=$(sed -n 's/^#SBATCH --comment="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$script")
last=$(sed -n 's/^#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
if [ -n "$last" ]; then for i in $(seq 0 $last); do echo "${number}_$i|RUNNING|None|$comment"; done >> FOLDER/queue
else echo "$number|RUNNING|None|$comment" >> FOLDER/queue; fi
echo "Submitted batch job $number"
"""
SCRIPTS = {
    "sbatch": SBATCH,
    "squeue": "#!/bin/sh\necho x >> FOLDER/asked\ntouch FOLDER/queue FOLDER/over\n"
    "awk -F'|' 'FNR==NR {over[$1]; next} !($1 in over)' FOLDER/over FOLDER/queue\n",
    "scontrol": "#!/bin/sh\necho 'MaxArraySize = 300'\n",
    "scancel": "#!/bin/sh\nexit 0\n",
}


class Workers(Thread):
    """The nodes of a cluster that is not there: they end jobs, with the results of the soaked store in their place."""

    def __init__(self, soaked: Path, store: Path, site: Path) -> None:
        super().__init__(daemon=True)
        self.soaked, self.store, self.site = soaked, store, site
        self.ended, self.given, self.chance = Event(), 0, random.Random(0)

    def run(self) -> None:
        while not self.ended.wait(0.2):
            ledger = self.store / "jobs.jsonl"
            lines = ledger.read_bytes().splitlines() if ledger.exists() else []
            jobs = [json.loads(line) for line in lines[self.given : self.given + 8]]
            with (self.site / "over").open("a") as over:
                for line in jobs:
                    self.work(line["task"])
                    over.write(line["job"] + "\n")
            self.given += len(jobs)

    def work(self, task: str) -> None:
        """One job in fifty ends without its result."""
        run, _, cell = task.partition("@")
        part = f"evals/{cell.partition(':')[2]}" if cell else ""
        ignore = None if cell else shutil.ignore_patterns("evals")
        if self.chance.random() > 0.02:
            source = self.soaked / "runs" / run / part
            shutil.copytree(source, self.store / "runs" / run / part, ignore=ignore, dirs_exist_ok=True)


def test_a_thousand_tasks_through_one_follower(soaked: Path, tmp_path: Path) -> None:
    site, store, sweep = tmp_path / "site", tmp_path / "store", many(tmp_path / "sweep", FOLLOWED)
    site.mkdir()
    for name, script in SCRIPTS.items():
        (site / name).write_text(script.replace("FOLDER", str(site)))
        (site / name).chmod(0o755)
    cluster = cluster_file(tmp_path, store=str(store), executor="slurm", device="cpu", poll_seconds=0.2)
    nodes = Workers(soaked / "store", store, site)
    nodes.start()
    path = f"{site}:{os.environ['PATH']}"
    process = started("launch", sweep, "--cluster", cluster, "--follow", "--dirty", PATH=path)
    pids: dict[int, list[tuple[float, int, int]]] = {process.pid: []}
    with measured(pids):
        try:
            status, out, err = finished(process, 1800)
        finally:
            nodes.ended.set()
    assert status == 0, err[-2000:]
    lines = (store / "jobs.jsonl").read_text().splitlines()
    asked = (site / "asked").read_text().count("x")
    print(f"follow: {out.count('submitted ')} submitted, {len(lines)} jobs, {asked} questions to the queue")
    assert len(lines) >= 2 * FOLLOWED and not zombies(os.getpid())
    flat("follower", pids[process.pid])
    assert "nothing is missing" in timed("plan", sweep, "--store", store)
