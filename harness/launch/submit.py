"""Missing tasks → submitit jobs, one job a task at a time; asked twice, submitted once. No torch."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from harness.base.commit import commit
from harness.base.errors import UserError, user_errors
from harness.base.files import append_lines, is_claimed, read_json, write_json
from harness.launch.executors import executor
from harness.launch.jobs import launch_lock, query_jobs, withdraw
from harness.launch.ledger import cancelled, set_cancelled, tries
from harness.launch.perform import perform, set_threads
from harness.launch.tickets import SchedulerUnavailable
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Task, from_json, to_json


class Job:
    """What submitit pickles: a task's id and the folder that holds the rest. It runs the task when called."""

    def __init__(self, folder: str, task: str) -> None:
        self.folder, self.task = folder, task

    def load(self) -> tuple[dict[str, Any], Cluster]:
        """What launch.json holds of the task, and the cluster."""
        spec = read_json(Path(self.folder) / "launch.json")
        return spec["tasks"][self.task], Cluster(**spec["cluster"])

    def __call__(self) -> None:
        """
        Raises:
            SystemExit: the task failed for a reason a person can fix, or was stopped; the line is
            the job's last.
        """
        fields, cluster = self.load()
        task = from_json(fields)
        cluster = task.resources(cluster)
        store = Store(Path(cluster.store))
        with executor(cluster).running(store, cluster) as patience:
            run_task(task, store, cluster, patience)

    def checkpoint(self) -> Any:
        """What submitit's own handler requeues, should its signal come before ours is there: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_task(task: Task, store: Store, cluster: Cluster, patience: float) -> None:
    """One task; where a signal stops it, this job goes back into the queue and resumes from there."""
    from harness.base.distributed import Interrupted

    set_threads(cluster)
    try:
        with user_errors():
            perform(task, store, cluster, print_progress, patience)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr, flush=True)
        # 1 of a rank would end the first before its turn
        raise SystemExit("requeued" if executor(cluster).requeue() else 0) from None
    except UserError as error:
        raise SystemExit(str(error)) from None


def print_progress(news: str, share: float) -> None:
    print(f"{share:4.0%} {news}", file=sys.stderr, flush=True)


def exhausted(tasks: Collection[Task], store: Store, cluster: Cluster) -> set[str]:
    """Those of the tasks whose last jobs ended without result or progress, `retries` times in a row."""
    count = tries(store)
    often = [
        task for task in tasks if count.get(task.id, (0, 0))[0] >= task.resources(cluster).retries
    ]
    return {task.id for task in often if task.position(store) <= count[task.id][1]}


class Reconciled(NamedTuple):
    """What a launch found and did."""

    submitted: list[Task]
    held: set[str]  # tasks with jobs from before
    left: set[str]  # tasks that are left alone: exhausted, or cancelled


def submit(
    name: str,
    wanted_now: Callable[[], list[Task]],
    store: Store,
    cluster: Cluster,
    code: Path,
    retry: bool = False,
    asked: bool = True,
    at_a_time: int | None = None,
) -> Reconciled:
    """Submits a job for each wanted task that is ready and has no job yet; asked twice, once.

    `wanted_now` lists the missing tasks; it is called under the lock.
    `asked`: by a person, so that what was cancelled is wanted again.
    `at_a_time`: the most jobs of the wanted tasks, pending or running; the rest is left for later.

    Raises:
        UserError: another launch holds the lock, or the scheduler refuses.
    """
    with launch_lock(store):
        seen = query_jobs(store, cluster.executor)
        # Another person's job only that person may end: the claim protects the task.
        with contextlib.suppress(SchedulerUnavailable):
            withdraw(seen.untracked)
        wanted = wanted_now()
        ready = [t for t in wanted if t.id not in seen.by_task and t.ready]
        left = set() if retry else exhausted(ready, store, cluster)
        withdrawn = cancelled(store) & {task.id for task in wanted}
        if asked and withdrawn:
            set_cancelled(withdrawn, store, False)
        left |= set() if asked else withdrawn
        tasks = [t for t in ready if t.id not in left and not is_claimed(t.claim(store))]
        held = {t.id for t in wanted if t.id in seen.by_task}
        if at_a_time is not None:
            tasks = tasks[: max(0, at_a_time - len(held))]
        orders = [
            Submission(t.id, to_json(t), t.resources(cluster), t.position(store)) for t in tasks
        ]
        accepted = submit_jobs(orders, Job, name, store, cluster, retry, code) if tasks else {}
        return Reconciled(
            [t for t in tasks if t.id in accepted],
            held,
            left,
        )


class Submission(NamedTuple):
    """A job to be: the task's id, what launch.json holds of it, what it asks for, and where it begins."""

    task: str
    launch_spec: dict[str, Any]
    cluster: Cluster
    at: int


def submit_jobs(
    orders: Sequence[Submission],
    kind: type[Job],
    name: str,
    store: Store,
    cluster: Cluster,
    retry: bool,
    code: Path,
) -> dict[str, str]:
    """Job ids by task, of those that the scheduler took; lines in the ledger.

    Each launch has a fresh folder, since submitit reads old results in an old one.
    """
    now = datetime.datetime.now(datetime.UTC)
    folder = (store.submissions() / now.strftime("%Y%m%dT%H%M%S%f")).resolve()
    spec = {
        "cluster": asdict(cluster),
        "tasks": {order.task: order.launch_spec for order in orders},
    }
    spec["cluster"]["store"] = str(store.root.resolve())
    spec["cluster"]["paths"] = {
        key: str(Path(path).expanduser().resolve()) for key, path in cluster.paths.items()
    }
    write_json(folder / "launch.json", spec)
    jobs = [kind(str(folder), order.task) for order in orders]
    handles = executor(cluster).submit(
        jobs, [order.cluster for order in orders], name, folder, code
    )
    shared = {
        "executor": cluster.executor,
        "launch": folder.name,
        "name": name,
        "commit": commit(),
        "user": getpass.getuser(),
        "retry": retry,
        "date": now.isoformat(timespec="seconds"),
    }
    taken = [(o, handle) for o, handle in zip(orders, handles, strict=True) if handle]
    append_lines(
        store.ledger(),
        (
            {"task": o.task, "job": handle.job, "log": str(handle.log), "at": o.at, **shared}
            for o, handle in taken
        ),
    )
    return {o.task: handle.job for o, handle in taken}
