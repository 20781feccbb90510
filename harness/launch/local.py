"""This machine as a cluster: submitit's local jobs, a place for each of them, and which still run. No torch."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.base.files import claim
from harness.launch.slurm import Ticket, Work
from harness.study.cluster import Cluster
from harness.study.store import Store


def hand_in(jobs: Sequence[Work], name: str, folder: Path, cluster: Cluster) -> list[Any]:
    """submitit's handles of the jobs, in order; on "debug" they run when they are asked for their results."""
    import submitit

    executor = submitit.AutoExecutor(str(folder), cluster=cluster.executor)
    executor.update_parameters(timeout_min=60 * 24 * 7, name=name)
    return [executor.submit(job) for job in jobs]


@contextlib.contextmanager
def place(store: Store, cluster: Cluster) -> Iterator[None]:
    """Waits for one of the `workers` places of this machine: submitit's local executor starts everything at once."""
    while True:
        for number in range(cluster.workers):
            with claim(store.submissions() / f"place.{number}.lock") as mine:
                if mine:
                    yield
                    return
        time.sleep(0.5)


def living(jobs: Sequence[str]) -> dict[str, Ticket]:
    return {
        job: Ticket("local", job, "RUNNING", "on this machine") for job in jobs if runs_here(job)
    }


def runs_here(pid: str) -> bool:
    """Whether that process is a submitit job of this machine: numbers are given out again."""
    try:
        return "submitit" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def cancel(jobs: Sequence[str]) -> None:
    for job in jobs:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(int(job), signal.SIGTERM)


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
