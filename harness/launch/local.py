"""The executor "local": submitit's jobs on this machine, and a slot for each. No torch."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.base.files import claim
from harness.launch.tickets import Handle, Line, Ticket, Work
from harness.study.cluster import Cluster
from harness.study.store import Store

REMOTE = False
DETACHED = True


def submit(
    jobs: Sequence[Work],
    resources: Sequence[Cluster],
    names: Sequence[str],
    folder: Path,
    code: Path,
) -> list[Handle | None]:
    """Starts every job as a process of submitit's; each waits for its slot in running()."""
    import submitit

    executor = submitit.AutoExecutor(str(folder), cluster="local")
    executor.update_parameters(timeout_min=60 * 24 * 7)
    handles = [executor.submit(job) for job in jobs]
    return [Handle(str(handle.job_id), handle.paths.stderr) for handle in handles]


@contextlib.contextmanager
def running(store: Store, cluster: Cluster) -> Iterator[float]:
    """Waits for one of the `workers` slots: submitit's local executor starts everything at once."""
    while True:
        for number in range(cluster.workers):
            with claim(store.submissions() / f"place.{number}.lock") as mine:
                if mine:
                    yield 0.1
                    return
        time.sleep(0.5)


def query(lines: Collection[Line]) -> list[Ticket]:
    return [
        Ticket("local", line["launch"], line["job"], "RUNNING", "on this machine")
        for line in lines
        if is_running(line["job"], line["launch"])
    ]


last_known = query


def is_running(pid: str, launch: str) -> bool:
    """Whether that process is a job of that launch: process ids are given out again."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return False
    return any("submitit" in word for word in words) and any(launch in word for word in words)


def cancel(tickets: Collection[Ticket]) -> None:
    for ticket in tickets:
        if is_running(ticket.job, ticket.launch):
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(int(ticket.job), signal.SIGTERM)


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
    """The kind of file system that a folder is on, such as nfs4, as Linux tells it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    around = [
        (len(where), i, kind)
        for i, (_, where, kind, *_) in enumerate(mounts)
        if folder.resolve().is_relative_to(where)
    ]
    return max(around)[2]
