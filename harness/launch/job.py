"""What a queued job does: its tasks, with the code of its launch. No torch at module level."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import EnvironmentProblem, UserError, as_user_error, user_errors
from harness.base.files import read_json
from harness.launch.executors import executor
from harness.launch.logs import ENVIRONMENT
from harness.launch.perform import perform, set_threads
from harness.launch.snapshot import check
from harness.spec import use_rows
from harness.spec.own_rows import LOADED
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Task, from_json

if TYPE_CHECKING:
    from harness.base.distributed import Stop


class Job:
    """What is pickled: ids of tasks and the folder that holds the rest. Called, it runs the tasks.

    Several tasks are small evaluations of one checkpoint, with the resources of the first.
    """

    def __init__(self, folder: str, *tasks: str) -> None:
        self.folder, self.tasks = folder, tasks

    def load(self) -> tuple[list[dict[str, Any]], Cluster]:
        """What launch.json holds of the tasks, and the cluster.

        Raises:
            SystemExit: this process runs other code than that of the launch.
        """
        spec = read_json(Path(self.folder) / "launch.json")
        if "code" in spec:
            try:
                check(spec["code"])
            except UserError as error:
                raise SystemExit(str(error)) from None
        use_copies(Path(self.folder) / "rows", spec.get("rows", {}))
        names = [name for name in spec.get("environment", ()) if name in os.environ]
        values = {"environment": {name: os.environ[name] for name in names}} if names else {}
        return [spec["tasks"][task] for task in self.tasks], Cluster(**spec["cluster"] | values)

    def __call__(self) -> None:
        """Performs the tasks of this job, one after another.

        Raises:
            SystemExit: a task failed for a reason a person can fix, or was stopped; the line is
            the job's last.
        """
        fields, cluster = self.load()
        tasks = [from_json(one) for one in fields]
        cluster = tasks[0].resources(cluster)
        store = Store(Path(cluster.store))
        with executor(cluster).running(store, cluster) as patience:
            run_tasks(tasks, store, cluster, patience)

    def checkpoint(self) -> Any:
        """What submitit's own handler requeues, should its signal come before ours is there."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def use_copies(folder: Path, rows: Mapping[str, str]) -> None:
    """Loads the launch's copies of files of rows.

    Raises:
        SystemExit: one was changed since, or does not run here.
    """
    for name, digest in rows.items():
        try:
            use_rows(folder / name)
        except UserError as error:
            raise SystemExit(str(error)) from None
        if LOADED[name].digest != digest:
            raise SystemExit(
                f"{folder / name} was changed after the launch: run harness launch again"
            )


def run_tasks(tasks: Sequence[Task], store: Store, cluster: Cluster, patience: float) -> None:
    """Performs tasks in turn; a signal puts this job back into its queue, where it can.

    Raises:
        Interrupted: a signal came, to jobs that have no process of their own.
    """
    from harness.base.distributed import Interrupted, stop_on_signal

    set_threads(cluster)
    try:
        with stop_on_signal() as stop, user_errors():
            perform_each(tasks, store, cluster, stop, patience)
    except Interrupted as stopped:
        if not executor(cluster).DETACHED:
            raise
        print(stopped, file=sys.stderr, flush=True)
        if all(task.is_done(store) for task in tasks):  # it came while the last one was written
            return
        # 1 of a rank would end the first before its turn
        raise SystemExit("requeued" if executor(cluster).requeue() else 0) from None
    except EnvironmentProblem as error:
        raise SystemExit(f"{ENVIRONMENT}{error}") from None
    except UserError as error:
        raise SystemExit(str(error)) from None


def perform_each(
    tasks: Sequence[Task], store: Store, cluster: Cluster, stop: Stop, patience: float
) -> None:
    """Performs each task, also after one that failed: it is not theirs to wait for its remedy.

    Raises:
        EnvironmentProblem: this machine cannot perform any of them.
        Exception: that of the last task that failed; the log has those before it.
    """
    failed: Exception | None = None
    for task in tasks:
        try:
            perform(task, store, cluster, print_progress, stop, patience)
        except EnvironmentProblem:
            raise
        except Exception as error:  # of one task: the others go on
            if failed:
                words = as_user_error(failed) or "".join(traceback.format_exception(failed))
                print(words, file=sys.stderr, flush=True)
            failed = error
    if failed:
        raise failed


def print_progress(news: str, share: float) -> None:
    print(f"{share:4.0%} {news}", file=sys.stderr, flush=True)
