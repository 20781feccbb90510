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
from harness.launch import local, slurm
from harness.launch.jobs import alone, look, withdraw
from harness.launch.ledger import cancelled, mark, tries
from harness.launch.perform import perform, set_threads
from harness.launch.slurm import Down
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Task, from_json, to_json

STALE_S = 300  # how long a job waits for an old writer that a node still runs


class Job:
    """What submitit pickles: a task's id and the folder that says the rest. It does the task when called."""

    def __init__(self, folder: str, task: str) -> None:
        self.folder, self.task = folder, task

    def told(self) -> tuple[dict[str, Any], Cluster]:
        """What launch.json says of the task, and the cluster."""
        told = read_json(Path(self.folder) / "launch.json")
        return told["tasks"][self.task], Cluster(**told["cluster"])

    def __call__(self) -> None:
        """
        Raises:
            SystemExit: the task failed for a reason a person can mend, or was stopped; the line is
            the job's last.
        """
        fields, cluster = self.told()
        task = from_json(fields)
        cluster = task.resources(cluster)
        store = Store(Path(cluster.store))
        if cluster.executor == "slurm":
            do(task, store, cluster, slurm.export_ranks(), STALE_S)
            return
        with local.place(store, cluster):
            do(task, store, cluster)

    def checkpoint(self) -> Any:
        """What submitit's own handler requeues, should its signal come before ours is there: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def do(
    task: Task, store: Store, cluster: Cluster, requeues: bool = False, patience: float = 0.1
) -> None:
    """One task; where a signal stops it, this job goes back into Slurm's queue, from which it resumes."""
    from harness.base.distributed import Interrupted

    set_threads(cluster)
    try:
        try:
            with user_errors():
                perform(task, store, cluster, tell, patience)
        except Interrupted as stopped:
            print(stopped, file=sys.stderr, flush=True)
            again = requeues and slurm.requeue()
            raise SystemExit(
                "requeued" if again else 0
            ) from None  # 1 of a rank would end the first before its turn
    except UserError as error:
        raise SystemExit(str(error)) from None


def tell(news: str, share: float) -> None:
    print(f"{share:4.0%} {news}", file=sys.stderr, flush=True)


def worn_out(tasks: Collection[Task], store: Store, cluster: Cluster) -> set[str]:
    """Those of the tasks whose last jobs ended without result or progress, `retries` times in a row."""
    count = tries(store)
    often = [
        task for task in tasks if count.get(task.id, (0, 0))[0] >= task.resources(cluster).retries
    ]
    return {task.id for task in often if task.position(store) <= count[task.id][1]}


class Reconciled(NamedTuple):
    """What a launch found and did."""

    submitted: list[Task]
    held: set[str]  # tasks that jobs from before have in hand
    left: set[str]  # tasks that are left alone: worn out, or cancelled


def submit(
    name: str,
    wanted_now: Callable[[], list[Task]],
    store: Store,
    cluster: Cluster,
    code: Path,
    retry: bool = False,
    asked: bool = True,
) -> Reconciled:
    """Submits a job for each wanted task that is ready and has no job yet; asked twice, once.

    `wanted_now` lists the missing tasks; it is called under the lock.
    `asked`: by a person, so that what was cancelled is wanted again.

    Raises:
        ValueError: another launch does not let go of the ledger, or the scheduler refuses.
    """
    with alone(store):
        seen = look(store, name if cluster.executor == "slurm" else "")
        with contextlib.suppress(
            Down
        ):  # another person's, which only that person may end: the claim protects the task
            withdraw(seen.strays)
        wanted = wanted_now()
        ready = [t for t in wanted if t.id not in seen.jobs and t.ready]
        left = set() if retry else worn_out(ready, store, cluster)
        withdrawn = cancelled(store) & {task.id for task in wanted}
        if asked and withdrawn:
            mark(withdrawn, store, False)
        left |= set() if asked else withdrawn
        tasks = [t for t in ready if t.id not in left and not is_claimed(t.claim(store))]
        if tasks:
            orders = [
                Order(t.id, to_json(t), t.resources(cluster), t.position(store)) for t in tasks
            ]
            hand_in(orders, Job, name, store, cluster, retry, code)
        return Reconciled(tasks, {t.id for t in wanted if t.id in seen.jobs}, left)


class Order(NamedTuple):
    """A job to be: the task's id, what launch.json says of it, what it asks for, and where it begins."""

    task: str
    told: dict[str, Any]
    cluster: Cluster
    at: int


def hand_in(
    orders: Sequence[Order],
    kind: type[Job],
    name: str,
    store: Store,
    cluster: Cluster,
    retry: bool,
    code: Path,
) -> list[str]:
    """Job ids, from a fresh folder, since submitit reads old results in an old one; lines in the ledger."""
    now = datetime.datetime.now(datetime.UTC)
    folder = (store.submissions() / now.strftime("%Y%m%dT%H%M%S%f")).resolve()
    told = {"cluster": asdict(cluster), "tasks": {order.task: order.told for order in orders}}
    told["cluster"]["store"] = str(store.root.resolve())
    told["cluster"]["paths"] = {
        key: str(Path(path).expanduser().resolve()) for key, path in cluster.paths.items()
    }
    write_json(folder / "launch.json", told)
    jobs = [kind(str(folder), order.task) for order in orders]
    if cluster.executor == "slurm":
        handles = slurm.hand_in(jobs, [order.cluster for order in orders], name, folder, code)
    else:
        handles = local.hand_in(jobs, name, folder, cluster)
    shared = {
        "executor": cluster.executor,
        "launch": folder.name,
        "name": name,
        "commit": commit(),
        "user": getpass.getuser(),
        "retry": retry,
        "date": now.isoformat(timespec="seconds"),
    }
    lines = (
        {
            "task": order.task,
            "job": str(handle.job_id),
            "log": str(handle.paths.stderr),
            "at": order.at,
            **shared,
        }
        for order, handle in zip(orders, handles, strict=True)
    )
    append_lines(store.ledger(), lines)
    if cluster.executor == "debug":  # runs in this process, when it is asked for its result
        for handle in handles:
            with contextlib.suppress(SystemExit):
                handle.result()
    return [str(handle.job_id) for handle in handles]
