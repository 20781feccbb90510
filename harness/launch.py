"""Missing tasks → submitit jobs, one job a task at a time; live() says which still run. No torch."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from harness import slurm
from harness.cluster import Cluster
from harness.ledger import ledger, worn_out
from harness.plan import Encode, Evaluate, Task, Train, missing
from harness.slurm import Ticket
from harness.snapshot import commit
from harness.spec import Protocol, Run, Sweep, refuse
from harness.store import Store, append_lines, claim, in_a_line, is_claimed, read_json, write_json
from harness.work import USER_ERRORS, claim_path, perform, set_threads

LEASE_S = 120  # how long a launch waits for another one into the same store
STALE_S = 300  # how long a job waits for an old writer that a node still runs


def to_json(task: Task) -> dict[str, Any]:
    return {"kind": type(task).__name__, **asdict(task)}


def from_json(fields: dict[str, Any]) -> Task:
    fields = dict(fields)
    kind = fields.pop("kind")
    if kind == "Encode":
        return Encode(**fields)
    run = Run(**fields.pop("run"))
    if kind == "Train":
        return Train(run, tuple(fields.pop("steps")), **fields)
    return Evaluate(run=run, protocol=Protocol(**fields.pop("protocol")), **fields)


def resources(task: Task, cluster: Cluster) -> Cluster:
    if isinstance(task, Encode):
        return cluster.of("", evaluates=False)
    return cluster.of(task.run.model, isinstance(task, Evaluate))


class Job:
    """What submitit pickles: a task's id and the folder that says the rest. It does the task when called."""

    def __init__(self, folder: str, task: str) -> None:
        self.folder, self.task = folder, task

    def __call__(self) -> None:
        """
        Raises:
            SystemExit: the task failed for a reason a person can mend, or was stopped; the line is the job's last.
        """
        told = read_json(Path(self.folder) / "launch.json")
        task = from_json(told["tasks"][self.task])
        cluster = resources(task, Cluster(**told["cluster"]))
        store = Store(Path(cluster.store))
        if cluster.executor == "slurm":
            do(task, store, cluster, slurm.export_ranks(), STALE_S)
            return
        with queue(store, cluster):
            do(task, store, cluster)

    def checkpoint(self) -> Any:
        """What submitit's own handler requeues, should its signal come before ours is there: the same."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def do(task: Task, store: Store, cluster: Cluster, requeues: bool = False, patience: float = 0.1) -> None:
    """One task; where a signal stops it, this job goes back into Slurm's queue, from which it resumes."""
    from harness.distributed import Interrupted

    set_threads(cluster)
    try:
        perform(task, store, cluster, tell, patience)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr, flush=True)
        again = requeues and slurm.requeue()
        raise SystemExit("requeued" if again else 0) from None  # 0: with --kill-on-bad-exit a rank would end the first
    except USER_ERRORS as error:
        raise SystemExit(in_a_line(error)) from None


def tell(news: str, share: float) -> None:
    print(f"{share:4.0%} {news}", file=sys.stderr, flush=True)


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


def runs_here(pid: str) -> bool:
    """Whether that process is a submitit job of this machine: numbers are given out again."""
    try:
        return "submitit" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def live(store: Store) -> dict[str, Ticket]:
    """The tasks that a job has in hand or waits to begin, by id; what nobody knows of is lost, and not among them.

    Raises:
        Down: Slurm jobs are in the ledger, and the scheduler does not answer.
    """
    last = {line["task"]: line for line in ledger(store)}
    jobs = {
        name: {x["job"]: x["launch"] for x in last.values() if x["executor"] == name} for name in ("local", "slurm")
    }
    alive = {
        "local": {job: Ticket("local", job, "RUNNING", "on this machine") for job in jobs["local"] if runs_here(job)},
        "slurm": slurm.living(jobs["slurm"]),
        "debug": {},
    }
    found = {task: alive[line["executor"]].get(line["job"]) for task, line in last.items()}
    return {task: ticket for task, ticket in found.items() if ticket}


class Reconciled(NamedTuple):
    """What a launch found and did."""

    submitted: list[Task]
    held: set[str]  # tasks that jobs from before have in hand


def submit(sweep: Sweep | Encode, store: Store, cluster: Cluster, retry: bool, code: Path) -> Reconciled:
    """Gives every missing task that can begin, and that nobody has in hand, to a submitit job; asked twice, once.

    Raises:
        ValueError: another launch does not let go of the ledger, or the scheduler refuses.
    """
    with claim(store.submissions() / "launch.lock", patience=LEASE_S) as mine:
        if not mine:
            raise ValueError(f"another launch into {store.root} is at work: run this again when it has ended")
        held = set(live(store))
        taken = held | (set() if retry else worn_out(store, cluster.retries))
        tasks = [t for t in missing(sweep, store) if t.id not in taken and (not isinstance(t, Evaluate) or t.ready)]
        tasks = [t for t in tasks if not is_claimed(claim_path(t, store))]
        if tasks:
            hand_in(tasks, sweep.name, store, cluster, retry, code)
        return Reconciled(tasks, held)


def hand_in(tasks: list[Task], name: str, store: Store, cluster: Cluster, retry: bool, code: Path) -> None:
    """Jobs for the tasks from a fresh folder, since submitit reads old results in an old one; lines in the ledger."""
    clusters = [resources(task, cluster) for task in tasks]
    refuse("cluster", [
        f"{c.ranks} processes are too many for the batch of {task.run.batch_size} of {task.id}: ask for fewer GPUs"
        for task, c in zip(tasks, clusters, strict=True)
        if isinstance(task, Train) and c.ranks > task.run.batch_size
    ])  # fmt: skip
    now = datetime.datetime.now(datetime.UTC)
    folder = (store.submissions() / now.strftime("%Y%m%dT%H%M%S%f")).resolve()
    told = {"cluster": asdict(cluster), "tasks": {task.id: to_json(task) for task in tasks}}
    told["cluster"]["store"] = str(store.root.resolve())
    told["cluster"]["paths"] = {key: str(Path(path).expanduser().resolve()) for key, path in cluster.paths.items()}
    write_json(folder / "launch.json", told)
    jobs = [Job(str(folder), task.id) for task in tasks]
    if cluster.executor == "slurm":
        handles = slurm.hand_in(jobs, clusters, name, folder, code)
    else:
        handles = here(jobs, name, folder, cluster)
    shared = {
        "executor": cluster.executor, "launch": folder.name, "commit": commit(), "user": getpass.getuser(),
        "retry": retry, "date": now.isoformat(timespec="seconds"),
    }  # fmt: skip
    lines = ({"task": task.id, "job": str(handle.job_id), "log": str(handle.paths.stderr), **shared}
             for task, handle in zip(tasks, handles, strict=True))  # fmt: skip
    append_lines(store.ledger(), lines)
    if cluster.executor == "debug":  # runs in this process, when it is asked for its result
        for handle in handles:
            with contextlib.suppress(SystemExit):
                handle.result()


def here(jobs: Collection[Job], name: str, folder: Path, cluster: Cluster) -> list[Any]:
    """submitit's handles of jobs on this machine."""
    import submitit

    executor = submitit.AutoExecutor(str(folder), cluster=cluster.executor)
    executor.update_parameters(timeout_min=60 * 24 * 7, name=name)
    return [executor.submit(job) for job in jobs]


def follow(
    sweep: Sweep, store: Store, cluster: Cluster, retry: bool, code: Path, say: Callable[[str], None]
) -> list[str]:
    """Submits until nothing is missing, each checkpoint being scored as soon as it is there; the tasks given up.

    Raises:
        Down: the scheduler does not answer the first time; later on it is asked again.
    """
    answered = False
    while True:
        try:
            submitted, held = submit(sweep, store, cluster, retry, code)
        except slurm.Down as error:
            if not answered:
                raise
            say(f"{error}: asked again in {cluster.poll_seconds:g} s")
        else:
            answered = True
            for task in submitted:
                say(f"submitted {task.id}: {task.reason}")
            retry, tasks = False, missing(sweep, store)
            left = {task.id for task in tasks}
            waiting = {task.id for task in tasks if isinstance(task, Evaluate) and not task.ready}
            in_hand = left & (held | {task.id for task in submitted})
            if not in_hand and left <= worn_out(store, cluster.retries) | waiting:
                return sorted(left)
        if cluster.executor != "debug":
            time.sleep(cluster.poll_seconds)


def withdraw(tickets: Collection[Ticket]) -> None:
    """Ends jobs; what they have done stays."""
    slurm.cancel([ticket.job for ticket in tickets if ticket.executor == "slurm"])
    for ticket in tickets:
        if ticket.executor == "local":
            os.kill(int(ticket.job), signal.SIGTERM)
