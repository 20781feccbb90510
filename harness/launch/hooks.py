"""Commands of the user, run when a task is given up and when nothing is missing. No torch."""

from __future__ import annotations

import os
import subprocess
import sys

from harness.launch.slurm_commands import ANSWER_S
from harness.spec import Sweep
from harness.study.cluster import Cluster


def run_hook(command: str | None, sweep: Sweep, cluster: Cluster, task: str = "") -> None:
    """Runs a shell command with $HARNESS_SWEEP, $HARNESS_TASK and $HARNESS_STORE.

    Its failure is reported, and stops nothing.
    """
    if not command:
        return
    names = {
        "HARNESS_SWEEP": sweep.name,
        "HARNESS_TASK": task,
        "HARNESS_STORE": cluster.store,
    }
    try:
        done = subprocess.run(command, shell=True, env=os.environ | names, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        print(f"{command}: killed after {ANSWER_S} s", file=sys.stderr, flush=True)
        return
    if done.returncode:
        print(f"{command}: exit status {done.returncode}", file=sys.stderr, flush=True)
