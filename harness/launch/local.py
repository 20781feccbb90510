"""The executor "local": processes of this machine, in a session of their own. No torch."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.base.commit import code_environment
from harness.base.locks import claim
from harness.launch.local_queue import Order, end_of, log_of, processes
from harness.launch.tickets import Handle, Line, Ticket, Work
from harness.study.cluster import Cluster
from harness.study.store import Store

REMOTE = False
DETACHED = True
STARTED: list[subprocess.Popen[bytes]] = []  # the queues of this process, until they are reaped


def submit(
    jobs: Sequence[Work],
    resources: Sequence[Cluster],
    names: Sequence[str],
    folder: Path,
    code: Path,
) -> list[Handle | None]:
    """Starts one process that runs the jobs, `workers` at a time, in this environment.

    It has a session of its own: a Ctrl-C or the end of the terminal does not reach the jobs.
    """
    orders = [
        Order(pickle.dumps(job), cluster.setup, cluster.environment)
        for job, cluster in zip(jobs, resources, strict=True)
    ]
    with (folder / "queue.log").open("w") as log:
        queue = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.launch.local_queue", str(folder)],
            env=code_environment(os.environ, code),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    STARTED.append(queue)
    assert queue.stdin
    with queue.stdin as pipe:
        pickle.dump((orders, resources[0].workers), pipe)
    return [Handle(f"{folder.name}.{i}", log_of(folder, str(i))) for i in range(len(jobs))]


@contextlib.contextmanager
def running(store: Store, cluster: Cluster) -> Iterator[float]:
    """Waits for one of the `workers` slots, which all launches into this store share.

    The job computes on the GPU of its slot's number, counted round and round.
    """
    while True:
        for number in range(cluster.workers):
            with claim(store.submissions() / f"place.{number}.lock") as mine:
                if mine:
                    os.environ["LOCAL_RANK"] = str(number)
                    yield 0.1
                    return
        time.sleep(0.5)


def query(lines: Collection[Line]) -> list[Ticket]:
    """The jobs that run here, and those that still wait in a queue."""
    STARTED[:] = [queue for queue in STARTED if queue.poll() is None]  # else they stay zombies
    alive = processes()
    tickets = []
    for launch, job in ((line["launch"], line["job"]) for line in lines):
        if (launch, number(job)) in alive:
            tickets.append(Ticket("local", launch, job, "RUNNING", "on this machine"))
        elif (queue := alive.get((launch, ""))) and not end_of(queue.folder, number(job)).exists():
            tickets.append(Ticket("local", launch, job, "PENDING", "waits for a free worker"))
    return tickets


last_known = query


def number(job: str) -> str:
    """The number of a job in its launch."""
    return job.rpartition(".")[2]


def cancel(tickets: Collection[Ticket]) -> None:
    """Ends these jobs with one SIGTERM each; those that have not begun never will."""
    for ticket in tickets:
        for _ in range(20):  # a job that just begins has no process yet
            alive, own = processes(), number(ticket.job)
            if process := alive.get((ticket.launch, own)):
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process.pid, signal.SIGTERM)
                break
            queue = alive.get((ticket.launch, ""))
            if not queue or end_of(queue.folder, own).exists() or withdrawn(queue.folder, own):
                break
            time.sleep(0.05)


def withdrawn(folder: Path, job: str) -> bool:
    """Whether a job will never begin, since its log is there already."""
    try:
        with log_of(folder, job).open("x") as log:
            log.write("harness: cancelled before it started\n")
    except FileExistsError:
        return False
    end_of(folder, job).touch()
    return True


def requeue() -> bool:
    return False


# What lies in the memory or on the disks of one machine.
OF_ONE_MACHINE = (
    "tmpfs",
    "ramfs",
    "overlay",
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
)


def file_system(folder: Path) -> str:
    """The kind of file system that a folder is on, such as nfs4, by /proc/mounts."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    around = [
        (len(where), i, kind)
        for i, (_, where, kind, *_) in enumerate(mounts)
        if folder.resolve().is_relative_to(where)
    ]
    return max(around)[2]
