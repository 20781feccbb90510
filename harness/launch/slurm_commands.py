"""Slurm's commands, run with a timeout and without settings of the caller's shell. No torch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

from harness.launch.tickets import SchedulerUnavailable

# What a shell or an outer job leaves behind and would override what is asked for, or hide what is
# asked about.
LEAKS = ("SBATCH_", "SLURM_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_")
RANKS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ANSWER_S = 60  # the longest wait for an answer of the scheduler
RESTART_S = 60  # slurmctld is back so long after a restart


def slurm_free_variables() -> dict[str, str]:
    """This environment without what would override what is asked of Slurm."""
    return {
        x: y
        for x, y in os.environ.items()
        if x == "SLURM_CONF" or (not x.startswith(LEAKS) and x not in RANKS)
    }


def ask(*command: str) -> str:
    """Runs a command of Slurm, and returns what it prints.

    Raises:
        SchedulerUnavailable: the command is not there, fails, or does not answer in time.
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
        raise SchedulerUnavailable(failure(command[0], done.stderr, done.returncode))
    return done.stdout


def failure(command: str, error: str, status: int) -> str:
    """Why a command failed, in a line; a machine that is no part of a cluster has no slurm.conf."""
    if "configuration source" in error:
        return (
            f"no Slurm here: {command} finds no slurm.conf: run this on a login node, or set"
            " SLURM_CONF to the file"
        )
    return " ".join(error.split()) or f"{command} failed with status {status}"


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


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Bounds the time that the block waits for sbatch.

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
