"""Missing tasks → submitit jobs; a ledger of which job was given which task; live() says which still run. No torch."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.cluster import Cluster, read_cluster
from harness.plan import Evaluate, Task, Train, missing
from harness.spec import Protocol, Run, Sweep
from harness.store import Store, append_lines, claim, is_claimed, read_json, read_lines, write_json
from harness.work import attempt, claim_path, set_threads

__all__ = ["Cluster", "Job", "follow", "live", "read_cluster", "submit"]

TRIES = 3  # submissions of a task that may end without its result, until --retry is asked for
POLL_S = 2.0


def to_json(task: Task) -> dict[str, Any]:
    return {"kind": type(task).__name__, **asdict(task)}


def from_json(fields: dict[str, Any]) -> Task:
    fields = dict(fields)
    kind, run = fields.pop("kind"), Run(**fields.pop("run"))
    if kind == "Train":
        return Train(run, tuple(fields.pop("steps")), **fields)
    return Evaluate(run=run, protocol=Protocol(**fields.pop("protocol")), **fields)


class Job:
    """What submitit pickles: a task's id and the folder that says the rest. It does the task when called."""

    def __init__(self, folder: str, task: str) -> None:
        self.folder, self.task = folder, task

    def __call__(self) -> None:
        """
        Raises:
            SystemExit: the task failed for a reason a person can mend; the line is the job's last.
        """
        told = read_json(Path(self.folder) / "launch.json")
        cluster = Cluster(**told["cluster"])
        task = from_json(told["tasks"][self.task])
        store = Store(Path(cluster.store))
        with queue(store, cluster):
            set_threads(cluster)
            error = attempt(task, store, cluster, lambda news, share: print(f"{share:4.0%} {news}", flush=True))
        if error:
            raise SystemExit(error)


@contextlib.contextmanager
def queue(store: Store, cluster: Cluster) -> Iterator[None]:
    """Waits for one of the `workers` places of this machine: submitit's local executor starts everything at once."""
    while True:
        for place in range(cluster.workers):
            with claim(store.submissions() / f"place.{place}.lock") as mine:
                if mine:
                    yield
                    return
        time.sleep(0.5)


def ledger(store: Store) -> list[dict[str, Any]]:
    return read_lines(store.ledger())[0] if store.ledger().exists() else []


def runs_here(pid: str) -> bool:
    """Whether that process is a submitit job of this machine: numbers are given out again."""
    try:
        return "submitit" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def live(store: Store) -> dict[str, str]:
    """The tasks that a job has in hand or waits to begin: task id → job id."""
    return {
        line["task"]: line["job"] for line in ledger(store) if line["executor"] == "local" and runs_here(line["job"])
    }


def worn_out(store: Store) -> set[str]:
    """Tasks whose last TRIES submissions ended without a result; launching with --retry forgets the earlier ones."""
    tries: Counter[str] = Counter()
    for line in ledger(store):
        tries[line["task"]] = 1 if line["retry"] else tries[line["task"]] + 1
    return {task for task, count in tries.items() if count >= TRIES}


def submit(sweep: Sweep, store: Store, cluster: Cluster, retry: bool = False) -> list[Task]:
    """Gives every missing task that can begin, and that nobody has in hand, to a submitit job; asked twice, once.

    Raises:
        ValueError: another launch holds the ledger.
    """
    import submitit

    with claim(store.submissions() / "launch.lock") as mine:
        if not mine:
            raise ValueError(f"another launch into {store.root} is at work: run this again when it has ended")
        taken = live(store).keys() | (set() if retry else worn_out(store))
        tasks = [t for t in missing(sweep, store) if t.id not in taken and (isinstance(t, Train) or t.ready)]
        tasks = [t for t in tasks if not is_claimed(claim_path(t, store))]
        if not tasks:
            return []
        now = datetime.datetime.now(datetime.UTC)
        folder = store.submissions() / now.strftime("%Y%m%dT%H%M%S%f")  # submitit reads old results in an old folder
        told = {"cluster": asdict(cluster), "tasks": {task.id: to_json(task) for task in tasks}}
        told["cluster"]["store"] = str(store.root.resolve())
        write_json(folder / "launch.json", told)
        executor = submitit.AutoExecutor(str(folder), cluster=cluster.executor)
        executor.update_parameters(timeout_min=60 * 24 * 7, name=sweep.name)
        for task in tasks:
            job = executor.submit(Job(str(folder.resolve()), task.id))
            line = {"task": task.id, "job": str(job.job_id), "executor": cluster.executor, "log": str(job.paths.stderr)}
            append_lines(store.ledger(), [{**line, "retry": retry, "date": now.isoformat(timespec="seconds")}])
            if cluster.executor == "debug":  # runs in this process, when it is asked for its result
                with contextlib.suppress(SystemExit):
                    job.result()
        return tasks


def follow(sweep: Sweep, store: Store, cluster: Cluster, retry: bool, tell: Callable[[str], None]) -> list[str]:
    """Submits until nothing is missing, each checkpoint being scored as soon as it is there; the tasks given up."""
    while True:
        for task in submit(sweep, store, cluster, retry):
            tell(f"submitted {task.id}: {task.reason}")
        retry = False
        left = {task.id for task in missing(sweep, store)}
        if not left & (live(store).keys() | (left - worn_out(store) - waiting(sweep, store))):
            return sorted(left)
        if cluster.executor == "local":
            time.sleep(POLL_S)


def waiting(sweep: Sweep, store: Store) -> set[str]:
    """Evaluations whose checkpoint is not there yet."""
    return {t.id for t in missing(sweep, store) if isinstance(t, Evaluate) and not t.ready}


def last_error(path: str) -> str:
    """The last line a job wrote to its error log."""
    with contextlib.suppress(OSError):
        lines = [line for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else ""
    return ""
