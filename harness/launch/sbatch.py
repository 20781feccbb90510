"""Submitting to Slurm through submitit: what is asked for, arrays, and limits on jobs. No torch."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.base.errors import UserError
from harness.launch.slurm_commands import ANSWER_S, ask, deadline, slurm_free_env
from harness.launch.tickets import Handle, SchedulerUnavailable, Work
from harness.study.cluster import RESOURCES, Cluster

# Time limits that submitit's handler survives; what is left to do is in the store.
FOREVER = 1_000_000
# sbatch's words where jobs may be submitted later, such as QOSMaxSubmitJobPerUserLimit.
LIMIT = re.compile(r"Max\w*Submit\w*Limit|job submit limit|MaxJobCount|temporarily un")


class LimitReached(UserError):
    """A limit on submitted jobs."""


class Request(NamedTuple):
    """Jobs that can be one array."""

    jobs: Sequence[Work]
    name: str
    resources: Cluster


def submit(
    jobs: Sequence[Work],
    resources: Sequence[Cluster],
    names: Sequence[str],
    folder: Path,
    code: Path,
) -> list[Handle | None]:
    """Submits every job with its resources, as arrays where they and the names are the same.

    Where a limit on jobs is met, as many as it lets through are submitted.

    Raises:
        UserError: sbatch refuses, in its own words; no job stays submitted, and no file.
    """
    handles: dict[int, Handle] = {}
    try:
        longest = longest_array()
        for group in groups(resources, names):
            refuse_hours(resources[group[0]])
            for low in range(0, len(group), longest):
                part = group[low : low + longest]
                wanted = Request([jobs[i] for i in part], names[part[0]], resources[part[0]])
                array = submit_some(wanted, folder, code)
                handles |= zip(part, array, strict=False)
                if len(array) < len(part):
                    return [handles.get(i) for i in range(len(jobs))]
    except LimitReached:
        if handles:
            return [handles.get(i) for i in range(len(jobs))]
        shutil.rmtree(folder)
        raise
    except BaseException:
        cancel_jobs([handle.job for handle in handles.values()])
        shutil.rmtree(folder)
        raise
    return [handles[i] for i in range(len(jobs))]


def groups(resources: Sequence[Cluster], names: Sequence[str]) -> list[list[int]]:
    """Indices of jobs that can be one array, in order."""
    found: dict[str, list[int]] = {}
    for i, (cluster, name) in enumerate(zip(resources, names, strict=True)):
        asked = [name, *(getattr(cluster, key) for key in RESOURCES)]
        found.setdefault(repr(asked), []).append(i)
    return list(found.values())


def submit_some(wanted: Request, folder: Path, code: Path) -> list[Handle]:
    """Submits an array, or after a limit on jobs the first half of it, and so on.

    Raises:
        LimitReached: not one of them may be submitted now.
    """
    size = len(wanted.jobs)
    while True:
        try:
            return submit_array(wanted._replace(jobs=wanted.jobs[:size]), folder, code)
        except LimitReached:
            if size == 1:
                raise
            size //= 2


def submit_array(wanted: Request, folder: Path, code: Path) -> list[Handle]:
    """Submits jobs of equal resources as one array.

    Raises:
        LimitReached: a limit on submitted jobs.
        UserError: sbatch refuses for another reason.
    """
    import submitit

    # submitit prints sbatch's words, and raises them too.
    with slurm_free_env(), contextlib.redirect_stderr(io.StringIO()):
        executor = submitit.AutoExecutor(
            str(folder), cluster="slurm", slurm_max_num_timeout=FOREVER
        )
        executor.update_parameters(**parameters(wanted, folder.name, code))
        try:
            # A second for each job's files.
            with deadline(ANSWER_S + len(wanted.jobs)), executor.batch():
                handles = [executor.submit(job) for job in wanted.jobs]
        except submitit.core.utils.FailedJobError as error:
            if isinstance(error.__cause__, SchedulerUnavailable):
                raise error.__cause__ from None
            words = " ".join(str(error).split())
            if LIMIT.search(words):
                raise LimitReached(
                    f"{words}: wait until jobs have ended; nothing was submitted"
                ) from None
            without = ", ".join(wanted.resources.exclude)
            nodes = f" (without the nodes {without}; --retry takes broken ones again)" * bool(
                without
            )
            raise UserError(
                f"{words}{nodes}: fix the cluster file; nothing was submitted"
            ) from None
    return [Handle(str(handle.job_id), handle.paths.stderr) for handle in handles]


def parameters(wanted: Request, launch: str, code: Path) -> dict[str, Any]:
    """What submitit is asked for."""
    cluster = wanted.resources
    minutes, cpus = math.ceil(60 * cluster.hours), cluster.cpus_per_task or cluster.threads
    asked = {
        "name": wanted.name,
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
        "slurm_exclude": ",".join(cluster.exclude) or None,
        "slurm_array_parallelism": cluster.throttle,
        "slurm_comment": launch,
        "slurm_wckey": "",  # submitit's own is "submitit", which sites with wckeys refuse
        "slurm_signal_delay_s": min(cluster.save_seconds, 15 * minutes),
        "slurm_additional_parameters": {"requeue": True, **cluster.sbatch},
        # A rank that fails ends the others; and since 22.05 srun does not take over sbatch's CPUs.
        "slurm_srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={cpus}"],
        "slurm_setup": shell_lines(cluster, code),
    }
    return {key: value for key, value in asked.items() if value is not None}


def shell_lines(cluster: Cluster, code: Path) -> list[str]:
    """What a job's shell does before Python: without its code it ends, and runs no other."""
    variables = {**cluster.environment, "HARNESS_COMMIT": code.name}
    here, gone = shlex.quote(str(code)), f"{code} is gone, the code of this job: launch again"
    return [
        *(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
        *cluster.setup,
        f"cd {here} || {{ echo {shlex.quote(gone)} >&2; exit 1; }}",
        f"export PYTHONPATH={here}${{PYTHONPATH:+:$PYTHONPATH}}",
    ]


def longest_array() -> int:
    """The most jobs that an array of this Slurm may have.

    Raises:
        SchedulerUnavailable: no Slurm, or it does not answer.
    """
    lines = (line.split("=") for line in ask("scontrol", "show", "config").splitlines())
    return next(int(words[1]) for words in lines if words[0].strip() == "MaxArraySize")


def refuse_hours(cluster: Cluster) -> None:
    """Slurm accepts a job above its partition's limit, and lets it wait for ever.

    Raises:
        UserError: `hours` is above the limit of each partition, and no QOS may lift it.
    """
    if cluster.qos:
        return
    names = cluster.partition.split(",") if cluster.partition else []
    rows = [
        dict(word.partition("=")[::2] for word in line.split())
        for line in ask("scontrol", "--oneliner", "show", "partition").splitlines()
    ]
    limits = [
        minutes(row.get("MaxTime", "UNLIMITED"))
        for row in rows
        if row.get("PartitionName") in names or (not names and row.get("Default") == "YES")
    ]
    if limits and 60 * cluster.hours > max(limits):
        where = cluster.partition or "the default partition"
        raise UserError(
            f"hours = {cluster.hours:g} is above the limit of {where}, {max(limits) / 60:g}:"
            " ask for at most that; jobs save, are requeued and go on"
        )


def minutes(limit: str) -> float:
    """1-02:03:00 → 1,563; UNLIMITED → infinity."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", limit)
    if not found:
        return math.inf
    days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return days * 1440 + hours * 60 + mins + seconds / 60


def cancel_jobs(jobs: Sequence[str]) -> None:
    if jobs:
        ask("scancel", "--quiet", *jobs)  # quiet: one that has just ended is no error
