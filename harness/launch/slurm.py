"""Slurm: arrays submitted through submitit, one question for the state of all jobs, a job's own requeue. No torch."""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.study.cluster import RESOURCES, Cluster

Work = Callable[[], None]
# What a shell or an outer job leaves behind and would override what is asked for, or hide what is
# asked about.
LEAKS = ("SBATCH_", "SLURM_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_")
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
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
ANSWER_S = 60  # the longest wait for an answer of the scheduler
SAVE_S = 120  # a job is told so long before its time is up
FOREVER = (
    1_000_000  # time limits that submitit's handler survives; what is left to do is in the store
)


class Down(ValueError):
    """The scheduler does not answer."""


@dataclass(frozen=True)
class Ticket:
    """A job that waits or runs."""

    executor: str
    job: str
    state: str
    reason: str


def clean() -> dict[str, str]:
    """This environment without what would steer Slurm behind our back."""
    return {
        x: y
        for x, y in os.environ.items()
        if x == "SLURM_CONF" or (not x.startswith(LEAKS) and x not in RANKS)
    }


def ask(*command: str) -> str:
    """
    Raises:
        Down: the command is not there, fails, or does not answer in time; with its last words.
    """
    try:
        done = subprocess.run(
            command, env=clean(), capture_output=True, text=True, timeout=ANSWER_S
        )
    except FileNotFoundError:
        raise Down(f"no Slurm here: {command[0]} is not on the path") from None
    except subprocess.TimeoutExpired:
        raise Down(f"{command[0]} did not answer in {ANSWER_S} s") from None
    if done.returncode:
        raise Down(
            " ".join(done.stderr.split()) or f"{command[0]} failed with status {done.returncode}"
        )
    return done.stdout


def queue(names: Collection[str]) -> list[tuple[Ticket, str]]:
    """The jobs of these names that wait or run, each with the comment it was submitted with: one question for all.

    slurmctld knows every job that is not over, so one unknown to it is lost.

    Raises:
        Down: it does not answer.
    """
    text = (
        ask("squeue", "-h", "-r", f"--name={','.join(sorted(names))}", "--format=%i|%T|%r|%k")
        if names
        else ""
    )
    rows = (line.split("|", 3) for line in text.splitlines())
    return [
        (Ticket("slurm", job, state, why), comment)
        for job, state, why, comment in rows
        if state not in ENDED
    ]


def accounts(jobs: Collection[str]) -> dict[str, Ticket]:
    """Which of the jobs wait or run as far as accounting knows: it hears of them seconds later than slurmctld.

    Raises:
        Down: there is no accounting, or it does not answer.
    """
    ids = ",".join(sorted({job.split("_")[0] for job in jobs}))
    text = ask("sacct", "-X", "-n", "-P", f"--jobs={ids}", "--format=JobID,State")
    rows = (line.split("|") for line in text.splitlines())
    states = {job: state.split(" ")[0] for ids, state in rows for job in elements(ids)}
    tickets = {
        job: Ticket("slurm", job, states.get(job, "UNKNOWN"), "as accounting knows it")
        for job in jobs
    }
    return {job: ticket for job, ticket in tickets.items() if ticket.state not in ENDED}


def elements(ids: str) -> list[str]:
    """7_[2-4,9%2] → 7_2, 7_3, 7_4, 7_9: what of an array waits stands in one row."""
    packed = re.fullmatch(r"(\d+)_\[([\d,-]+)(%\d+)?\]", ids)
    if not packed:
        return [ids]
    spans = (part.partition("-") for part in packed[2].split(","))
    return [
        f"{packed[1]}_{i}" for low, _, high in spans for i in range(int(low), int(high or low) + 1)
    ]


def parameters(cluster: Cluster, name: str, launch: str, code: Path) -> dict[str, Any]:
    """What submitit is told for tasks with these resources."""
    minutes, cpus = math.ceil(60 * cluster.hours), cluster.cpus_per_task or cluster.threads
    variables = {**cluster.environment, "HARNESS_COMMIT": code.name}
    here = shlex.quote(str(code))
    given = {
        "name": name,
        "timeout_min": minutes,
        "nodes": cluster.nodes,
        "tasks_per_node": max(1, cluster.gpus_per_node),
        "cpus_per_task": cpus,
        "gpus_per_node": cluster.gpus_per_node or None,
        "mem_gb": cluster.memory_gb,
        "slurm_partition": cluster.partition,
        "slurm_account": cluster.account,
        "slurm_qos": cluster.qos,
        "slurm_constraint": cluster.constraint,
        "slurm_array_parallelism": cluster.throttle,
        "slurm_comment": launch,
        "slurm_signal_delay_s": min(SAVE_S, 15 * minutes),
        "slurm_additional_parameters": {"requeue": True},
        # A rank that fails ends the others; and since 22.05 srun does not take over sbatch's CPUs.
        "slurm_srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}"],
        "slurm_setup": [
            *(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
            *cluster.setup,
            f"cd {here}",
            f"export PYTHONPATH={here}${{PYTHONPATH:+:$PYTHONPATH}}",
        ],
    }
    return {key: value for key, value in given.items() if value is not None}


def hand_in(
    jobs: Sequence[Work], clusters: Sequence[Cluster], name: str, folder: Path, code: Path
) -> list[Any]:
    """Submits every job with its resources, as arrays where they are the same; submitit's handles, in order.

    Raises:
        ValueError: sbatch refuses, in its own words; nothing stays submitted, and no file.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, cluster in enumerate(clusters):
        groups.setdefault(tuple(getattr(cluster, key) for key in RESOURCES), []).append(i)
    handles: dict[int, Any] = {}
    try:
        longest = longest_array()
        for group in groups.values():
            told = parameters(clusters[group[0]], name, folder.name, code)
            for low in range(0, len(group), longest):
                part = group[low : low + longest]
                handles |= zip(
                    part, hand_in_array([jobs[i] for i in part], folder, told), strict=True
                )
    except BaseException:
        cancel([handle.job_id for handle in handles.values()])
        shutil.rmtree(folder)
        raise
    return [handles[i] for i in range(len(jobs))]


def hand_in_array(jobs: Sequence[Work], folder: Path, told: dict[str, Any]) -> list[Any]:
    import submitit

    words = io.StringIO()
    with (
        leakless(),
        contextlib.redirect_stderr(words),
    ):  # submitit prints sbatch's words, and raises them too
        executor = submitit.AutoExecutor(
            str(folder), cluster="slurm", slurm_max_num_timeout=FOREVER
        )
        executor.update_parameters(**told)
        try:
            with deadline(ANSWER_S + len(jobs)), executor.batch():  # a second for each job's files
                handles = [executor.submit(job) for job in jobs]
        except submitit.core.utils.FailedJobError as error:
            if isinstance(error.__cause__, Down):
                raise error.__cause__ from None
            raise UserError(
                " ".join(str(error).split()) + ": mend the cluster file; nothing was submitted"
            ) from None
    return handles


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """
    Raises:
        Down: within, when the time is up: submitit waits for sbatch without end.
    """

    def late(*_: object) -> None:
        raise Down(f"sbatch did not answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def leakless() -> Iterator[None]:
    """While this lasts, os.environ is clean()."""
    kept, before = clean(), dict(os.environ)
    for name in before.keys() - kept.keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def longest_array() -> int:
    """
    Raises:
        Down: no Slurm, or it does not answer.
    """
    lines = (line.split("=") for line in ask("scontrol", "show", "config").splitlines())
    return next(int(words[1]) for words in lines if words[0].strip() == "MaxArraySize")


def cancel(jobs: Collection[str]) -> None:
    if jobs:
        ask("scancel", "--quiet", *jobs)  # quiet: one that has just ended is no error


def requeue() -> bool:
    """Puts this job back into the queue, unless Slurm is ending it, or runs it elsewhere already: it lost this node.

    Raises:
        Down: the scheduler did not answer for a minute: a restart of slurmctld is waited for.
    """
    job, until = os.environ["SLURM_JOB_ID"], time.monotonic() + SAVE_S / 2
    here = f"RUNNING {os.environ['SLURM_JOB_NODELIST']}"
    while True:
        try:
            if ask("squeue", "-h", f"--jobs={job}", "--format=%T %N").strip() != here:
                return False
            ask("scontrol", "requeue", job)
            return True
        except Down:
            if time.monotonic() > until:
                raise
            time.sleep(2)


def export_ranks() -> bool:
    """Tells torch of its ranks what Slurm tells of its tasks; whether this is the first."""
    from submitit.helpers import TorchDistributedEnvironment

    place = TorchDistributedEnvironment()
    if place.world_size > 1:
        place.export(
            set_cuda_visible_devices=False, overwrite=True
        )  # process_group() chooses by the local rank
        try:
            socket.gethostbyname(place.master_addr)
        except OSError:  # a name of Slurm's alone; srun runs on the first node, where rank 0 is
            os.environ["MASTER_ADDR"] = os.environ["SLURM_LAUNCH_NODE_IPADDR"]
    return int(place.rank) == 0
