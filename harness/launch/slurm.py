"""The executor "slurm": one squeue for all jobs, a job's own requeue and ranks. No torch."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from harness.launch.sbatch import cancel_jobs, submit
from harness.launch.slurm_commands import RESTART_S, ask
from harness.launch.tickets import Line, SchedulerUnavailable, Ticket
from harness.study.cluster import Cluster
from harness.study.store import Store

__all__ = ["DETACHED", "REMOTE", "cancel", "last_known", "query", "requeue", "running", "submit"]

REMOTE = True
DETACHED = True
ENDED = (
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "BOOT_FAIL",
    "DEADLINE",
    "PREEMPTED",
    "REVOKED",
)
STALE_S = 300  # how long a job waits for an old writer that a node still runs


def query(lines: Collection[Line]) -> list[Ticket]:
    """The jobs of these users, by the launch that their script lies in: one question for all.

    A comment can be changed by the site, and a job id is given out again after slurmctld lost its
    state; the path of the script stays. slurmctld knows every job that is not over, and ended ones
    for MinJobAge (5 minutes by default).

    Raises:
        SchedulerUnavailable: it does not answer.
    """
    users = ",".join(sorted({str(os.getuid()), *map(str, uids(lines))}))
    fields = "%i|%T|%N|%M|%r|%k|%o"
    text = ask("squeue", "-h", "-r", "--states=all", f"--user={users}", f"--format={fields}")
    return [ticket(line.split("|", 5)) for line in text.splitlines()]


def ticket(row: list[str]) -> Ticket:
    job, state, node, used, why, marks = row
    return Ticket(
        "slurm", launch_of(marks), job, state, why, node, in_seconds(used), state in ENDED
    )


def in_seconds(used: str) -> int:
    """1-02:03:04 → 93,784; Slurm writes days-hours:minutes:seconds, and leaves out what is 0."""
    days, _, clock = used.rpartition("-")
    if not re.fullmatch(r"[\d:]+", clock):  # INVALID, of a clock that was set back
        return 0
    parts = [int(part) for part in clock.split(":")]
    return int(days or 0) * 86400 + sum(n * 60**i for i, n in enumerate(reversed(parts)))


def uids(lines: Collection[Line]) -> Iterator[int]:
    """The users of ledger lines that this machine knows: squeue refuses a question about others."""
    for name in {line["user"] for line in lines}:
        with contextlib.suppress(KeyError):
            yield pwd.getpwnam(name).pw_uid


def launch_of(marks: str) -> str:
    """The launch of a job with this "comment|command"."""
    comment, _, command = marks.rpartition("|")
    script = Path(command.split(" ")[0])
    return script.parent.name if "submission_file" in script.name else comment


def last_known(lines: Collection[Line]) -> list[Ticket]:
    """What accounting knows of these jobs, seconds later than slurmctld does.

    Raises:
        SchedulerUnavailable: there is no accounting, or it does not answer.
    """
    ids = ",".join(sorted({line["job"].split("_")[0] for line in lines}))
    fields = "JobID,State,NodeList,ElapsedRaw"
    text = ask("sacct", "-X", "-n", "-P", f"--jobs={ids}", f"--format={fields}") if ids else ""
    rows = (line.split("|") for line in text.splitlines())
    known = {job: row for packed, *row in rows for job in elements(packed)}
    return [accounted(line, *known.get(line["job"], ("UNKNOWN", "", "0"))) for line in lines]


def accounted(line: Line, states: str, node: str, seconds: str) -> Ticket:
    state, why = states.split(" ")[0], "as accounting knows it"
    node = "" if node.startswith("None") else node
    return Ticket(
        "slurm", line["launch"], line["job"], state, why, node, int(seconds or 0), state in ENDED
    )


def elements(ids: str) -> list[str]:
    """7_[2-4,9%2] → 7_2, 7_3, 7_4, 7_9: what of an array waits stands in one row."""
    packed = re.fullmatch(r"(\d+)_\[([\d,-]+)(%\d+)?\]", ids)
    if not packed:
        return [ids]
    spans = (part.partition("-") for part in packed[2].split(","))
    return [
        f"{packed[1]}_{i}" for low, _, high in spans for i in range(int(low), int(high or low) + 1)
    ]


def cancel(tickets: Collection[Ticket]) -> None:
    cancel_jobs([ticket.job for ticket in tickets])


def requeue() -> bool:
    """Puts this job back into the queue, from its first rank.

    Not where Slurm ends it already, or runs it elsewhere: it lost this node.

    Raises:
        SchedulerUnavailable: no answer for a minute; a restart of slurmctld takes less.
    """
    if os.environ["SLURM_PROCID"] != "0":
        return False
    job, until = os.environ["SLURM_JOB_ID"], time.monotonic() + RESTART_S
    here = f"RUNNING {os.environ['SLURM_JOB_NODELIST']}"
    while True:
        try:
            if ask("squeue", "-h", f"--jobs={job}", "--format=%T %N").strip() != here:
                return False
            ask("scontrol", "requeue", job)
            return True
        except SchedulerUnavailable:
            if time.monotonic() > until:
                raise
            time.sleep(2)


@contextlib.contextmanager
def running(store: Store, cluster: Cluster) -> Iterator[float]:
    """Gives torch Slurm's ranks. An old writer that a lost node still runs is waited for."""
    export_ranks()
    yield STALE_S


def export_ranks() -> None:
    from submitit.helpers import TorchDistributedEnvironment

    ranks = TorchDistributedEnvironment()
    if ranks.world_size > 1:
        # process_group() chooses the device by the local rank
        ranks.export(set_cuda_visible_devices=False, overwrite=True)
        try:
            socket.gethostbyname(ranks.master_addr)
        except OSError:  # a name of Slurm's alone; srun runs on the first node, where rank 0 is
            os.environ["MASTER_ADDR"] = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
