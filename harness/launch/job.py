"""What a queued job does: one task, in the code of its launch. No torch at module level."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from harness.base.errors import EnvironmentProblem, UserError, user_errors
from harness.base.files import read_json
from harness.launch.executors import executor
from harness.launch.logs import ENVIRONMENT
from harness.launch.perform import perform, set_threads
from harness.launch.snapshot import check
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Task, from_json


class Job:
    """What is pickled: a task's id and the folder that holds the rest. Called, it runs the task."""

    def __init__(self, folder: str, task: str) -> None:
        self.folder, self.task = folder, task

    def load(self) -> tuple[dict[str, Any], Cluster]:
        """What launch.json holds of the task, and the cluster.

        Raises:
            SystemExit: this process runs other code than that of the launch.
        """
        spec = read_json(Path(self.folder) / "launch.json")
        if "code" in spec:
            try:
                check(spec["code"])
            except UserError as error:
                raise SystemExit(str(error)) from None
        names = [name for name in spec.get("environment", ()) if name in os.environ]
        values = {"environment": {name: os.environ[name] for name in names}} if names else {}
        return spec["tasks"][self.task], Cluster(**spec["cluster"] | values)

    def __call__(self) -> None:
        """
        Raises:
            SystemExit: the task failed for a reason a person can fix, or was stopped; the line is
            the job's last.
        """
        fields, cluster = self.load()
        task = from_json(fields)
        cluster = task.resources(cluster)
        store = Store(Path(cluster.store))
        with executor(cluster).running(store, cluster) as patience:
            run_task(task, store, cluster, patience)

    def checkpoint(self) -> Any:
        """What submitit's own handler requeues, should its signal come before ours is there."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_task(task: Task, store: Store, cluster: Cluster, patience: float) -> None:
    """Performs a task; a signal puts this job back into its queue, where it can."""
    from harness.base.distributed import Interrupted

    set_threads(cluster)
    try:
        with user_errors():
            perform(task, store, cluster, print_progress, patience)
    except Interrupted as stopped:
        print(stopped, file=sys.stderr, flush=True)
        # 1 of a rank would end the first before its turn
        raise SystemExit("requeued" if executor(cluster).requeue() else 0) from None
    except EnvironmentProblem as error:
        raise SystemExit(f"{ENVIRONMENT}{error}") from None
    except UserError as error:
        raise SystemExit(str(error)) from None


def print_progress(news: str, share: float) -> None:
    print(f"{share:4.0%} {news}", file=sys.stderr, flush=True)
