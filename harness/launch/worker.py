"""A worker of `harness run`: performs the tasks that nobody else has locked. No torch."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.base.errors import EnvironmentProblem, Locked, UserError, user_errors
from harness.base.locks import holder, is_claimed
from harness.base.signals import interrupt, on_stop, stop_afterwards
from harness.launch.failures import failed_in, record, record_traceback
from harness.launch.perform import perform, set_threads
from harness.launch.progress import Pipe, Reporter
from harness.spec import Sweep, use_rows
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Task

STOPPED = 130  # the exit status after a signal


@dataclass(frozen=True)
class Share:
    """What a worker is given: the tasks of a sweep that nobody else has locked."""

    sweep: Sweep
    store: Store
    cluster: Cluster
    rows: tuple[Path, ...]  # the files of rows that the sweep uses
    batch: str  # names the `harness run`: a task that failed is left alone by all its workers


def work(job: Share, reporter: Reporter) -> None:
    """Performs ready tasks, the longest first, until none is left that did not fail."""
    while True:
        began = time.monotonic()
        failed = reporter.failed.keys() | failed_in(job.batch, job.store)
        left = [t for t in missing(job.sweep, job.store) if t.ready and t.id not in failed]
        left.sort(key=lambda task: task.size, reverse=True)  # the last worker then ends soonest
        if not left:
            return
        free = next((task for task in left if not is_claimed(task.claim(job.store))), None)
        if free:
            with stop_afterwards():
                set_threads(job.cluster)  # imports torch: not where nothing is left to do
            attempt(free, job, reporter)
            continue
        # Another process has locked what is left: waiting for it, rather than calling it a failure.
        who = holder(left[0].claim(job.store)) or "another process"
        reporter.wait(f"{left[0].id} is locked by {who} (host and pid): waiting for its end")
        time.sleep(max(1, 5 * (time.monotonic() - began)))  # a look at a large store takes seconds


def attempt(task: Task, job: Share, reporter: Reporter) -> None:
    """Performs a task. Whatever goes wrong is recorded and ends this task alone.

    Raises:
        EnvironmentProblem: the machine is at fault, and would be for every task.
        Interrupted: a signal came; the task may be done.
    """
    from harness.base.distributed import stop_on_signal

    def fail(error: str) -> None:
        record(task.id, job.store, job.batch, error)
        reporter.fail(task.id, error)

    reporter.show(task.id, "", 0.0)
    with stop_on_signal() as stop:
        try:
            with user_errors():
                perform(task, job.store, job.cluster, partial(reporter.show, task.id), stop)
        except Locked:
            pass  # another process was quicker: the task is done by it, or missing again
        except EnvironmentProblem:
            raise
        except UserError as error:
            fail(str(error))
        except Exception as error:  # a bug or a device's fault: the other tasks go on
            fail(record_traceback(task.id, job.store, error))
            if "RANK" in os.environ:  # the other ranks wait for this one in vain
                raise
        reporter.end(task.id)


def main() -> int:
    """Takes a Share from stdin, and works until nothing is left or stdin ends."""
    reporter = Pipe(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)  # what a library prints is no report
    with on_stop(interrupt):
        try:
            job: Share = pickle.load(sys.stdin.buffer)
            for path in job.rows:
                use_rows(path)
            threading.Thread(target=stop_at_end_of_input, daemon=True).start()
            work(job, reporter)
        except EnvironmentProblem as error:
            reporter.send("environment", str(error))
        except (KeyboardInterrupt, EOFError):  # stopped, or the parent is gone
            return STOPPED
    return 0


def stop_at_end_of_input() -> None:
    """Signals this process when the parent stops it, or is gone."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
