"""The executor "slurm": arrays through submitit, one squeue for all jobs, a job's own requeue. No torch."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.launch.tickets import Handle, Line, SchedulerUnavailable, Ticket, Work
from harness.study.cluster import RESOURCES, Cluster
from harness.study.store import Store

REMOTE = True
DETACHED = True
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
STALE_S = 300  # how long a job waits for an old writer that a node still runs
FOREVER = (
    1_000_000  # time limits that submitit's handler survives; what is left to do is in the store
)


def slurm_free_variables() -> dict[str, str]:
    """This environment without what would override what is asked of Slurm."""
    return {
        x: y
        for x, y in os.environ.items()
        if x == "SLURM_CONF" or (not x.startswith(LEAKS) and x not in RANKS)
    }


def ask(*command: str) -> str:
    """
    Raises:
        SchedulerUnavailable: the command is not there, fails, or does not answer in time; with its last words.
    """
    try:
        done = subprocess.run(
            command, env=slurm_free_variables(), capture_output=True, text=True, timeout=ANSWER_S
        )
    except FileNotFoundError:
        raise SchedulerUnavailable(f"no Slurm here: {command[0]} is not on the path") from None
    except subprocess.TimeoutExpired:
        raise SchedulerUnavailable(f"{command[0]} did not answer in {ANSWER_S} s") from None
    if done.returncode:
        raise SchedulerUnavailable(
            " ".join(done.stderr.split()) or f"{command[0]} failed with status {done.returncode}"
        )
    return done.stdout


def query(lines: Collection[Line]) -> list[Ticket]:
    """The pending and running jobs of these users, by the launch that their script lies in: one question for all.

    A comment can be changed by the site, and a job id is given out again after slurmctld lost its
    state; the path of the script stays. slurmctld knows every job that is not over.

    Raises:
        SchedulerUnavailable: it does not answer.
    """
    users = ",".join(sorted({str(os.getuid()), *map(str, uids(lines))}))
    text = ask("squeue", "-h", "-r", f"--user={users}", "--format=%i|%T|%r|%k|%o")
    rows = (line.split("|", 3) for line in text.splitlines())
    return [
        Ticket("slurm", launch_of(marks), job, state, why)
        for job, state, why, marks in rows
        if state not in ENDED
    ]


def uids(lines: Collection[Line]) -> Iterator[int]:
    """The users of ledger lines that this machine knows: squeue refuses a question about others."""
    for name in {line["user"] for line in lines}:
        with contextlib.suppress(KeyError):
            yield pwd.getpwnam(name).pw_uid


def launch_of(marks: str) -> str:
    """The launch of a job with this "comment|command"."""
    comment, _, command = marks.rpartition("|")
    script = Path(command.split(" ")[0])
    return script.parent.name if script.name.startswith("submission") else comment


def last_known(lines: Collection[Line]) -> list[Ticket]:
    """What accounting knows of the jobs of these lines: it hears of them seconds later than slurmctld.

    Raises:
        SchedulerUnavailable: there is no accounting, or it does not answer.
    """
    ids = ",".join(sorted({line["job"].split("_")[0] for line in lines}))
    text = ask("sacct", "-X", "-n", "-P", f"--jobs={ids}", "--format=JobID,State") if ids else ""
    rows = (line.split("|") for line in text.splitlines())
    states = {job: state.split(" ")[0] for ids, state in rows for job in elements(ids)}
    return [
        Ticket("slurm", line["launch"], line["job"], state, "as accounting knows it")
        for line in lines
        if (state := states.get(line["job"], "UNKNOWN")) not in ENDED
    ]


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


def submit(
    jobs: Sequence[Work], resources: Sequence[Cluster], name: str, folder: Path, code: Path
) -> list[Handle | None]:
    """Submits every job with its resources, as arrays where they are the same.

    Raises:
        UserError: sbatch refuses, in its own words; no job stays submitted, and no file.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, cluster in enumerate(resources):
        groups.setdefault(tuple(getattr(cluster, key) for key in RESOURCES), []).append(i)
    handles: dict[int, Handle] = {}
    try:
        longest = longest_array()
        for group in groups.values():
            options = parameters(resources[group[0]], name, folder.name, code)
            for low in range(0, len(group), longest):
                part = group[low : low + longest]
                array = submit_array([jobs[i] for i in part], folder, options)
                handles |= zip(part, array, strict=True)
    except BaseException:
        cancel_jobs([handle.job for handle in handles.values()])
        shutil.rmtree(folder)
        raise
    return [handles.get(i) for i in range(len(jobs))]


def submit_array(jobs: Sequence[Work], folder: Path, options: dict[str, Any]) -> list[Handle]:
    import submitit

    # submitit prints sbatch's words, and raises them too.
    with slurm_free_env(), contextlib.redirect_stderr(io.StringIO()):
        executor = submitit.AutoExecutor(
            str(folder), cluster="slurm", slurm_max_num_timeout=FOREVER
        )
        executor.update_parameters(**options)
        try:
            with deadline(ANSWER_S + len(jobs)), executor.batch():  # a second for each job's files
                handles = [executor.submit(job) for job in jobs]
        except submitit.core.utils.FailedJobError as error:
            if isinstance(error.__cause__, SchedulerUnavailable):
                raise error.__cause__ from None
            raise UserError(
                " ".join(str(error).split()) + ": fix the cluster file; nothing was submitted"
            ) from None
    return [Handle(str(handle.job_id), handle.paths.stderr) for handle in handles]


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """
    Raises:
        SchedulerUnavailable: within, when the time is up: submitit waits for sbatch without end.
    """

    def late(*_: object) -> None:
        raise SchedulerUnavailable(f"sbatch did not answer in {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def slurm_free_env() -> Iterator[None]:
    """Within, os.environ is slurm_free_variables()."""
    kept, before = slurm_free_variables(), dict(os.environ)
    for name in before.keys() - kept.keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def longest_array() -> int:
    """
    Raises:
        SchedulerUnavailable: no Slurm, or it does not answer.
    """
    lines = (line.split("=") for line in ask("scontrol", "show", "config").splitlines())
    return next(int(words[1]) for words in lines if words[0].strip() == "MaxArraySize")


def cancel(tickets: Collection[Ticket]) -> None:
    cancel_jobs([ticket.job for ticket in tickets])


def cancel_jobs(jobs: Collection[str]) -> None:
    if jobs:
        ask("scancel", "--quiet", *jobs)  # quiet: one that has just ended is no error


def requeue() -> bool:
    """Puts this job back into the queue: its first rank does, unless Slurm ends it or runs it elsewhere already.

    Raises:
        SchedulerUnavailable: the scheduler did not answer for a minute: a restart of slurmctld is waited for.
    """
    if os.environ["SLURM_PROCID"] != "0":
        return False
    job, until = os.environ["SLURM_JOB_ID"], time.monotonic() + SAVE_S / 2
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
