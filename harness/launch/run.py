"""`harness run`: every missing task on this machine, here or in worker processes. No torch."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

from harness.base.commit import code_environment
from harness.base.errors import EnvironmentProblem
from harness.base.signals import interrupt, on_stop
from harness.launch.failures import record
from harness.launch.perform import perform
from harness.launch.progress import Bar
from harness.launch.worker import STOPPED, Share, work
from harness.spec import Sweep
from harness.spec.own_rows import LOADED
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Task


def run_all(sweep: Sweep, store: Store, cluster: Cluster) -> list[str]:
    """Performs every missing task here. Returns the error lines of those that failed.

    Raises:
        EnvironmentProblem: this machine cannot perform any of them.
        KeyboardInterrupt: a signal came; what was done is in the store.
    """
    rows = tuple(file.path for file in LOADED.values())
    job = Share(sweep, store, replace(cluster, workers=1), rows, uuid.uuid4().hex)
    tasks = missing(sweep, store)
    with Bar(tasks) as bar, on_stop(interrupt):
        if cluster.workers == 1 or "RANK" in os.environ:
            work(job, bar)
        else:
            supervise(job, min(cluster.workers, len(tasks)), cluster.retries, bar)
    return list(bar.failed.values())


def run_one(task: Task, store: Store, cluster: Cluster) -> None:
    """Performs one task here, with a progress bar on rank 0; raises what `perform` raises."""
    from harness.base.distributed import stop_on_signal

    if os.environ.get("RANK", "0") != "0":
        with stop_on_signal() as stop:
            perform(task, store, cluster, lambda *_: None, stop)
        return
    with Bar([task]) as bar, stop_on_signal() as stop:
        perform(task, store, cluster, partial(bar.show, task.id), stop)


class Worker:
    """A child process at work. Its reports move the bar; the end of its stdin stops it.

    Worker `number` computes on the GPU of that number, counted round and round.
    """

    def __init__(self, job: Share, number: int, bar: Bar) -> None:
        self.number, self.bar, self.task, self.problem = number, bar, "", ""
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "harness.launch.worker"],
            env=code_environment({**os.environ, "LOCAL_RANK": str(number)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C is for the parent, which then stops all
        )
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it has died already
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()

    def listen(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            kind, *words = json.loads(line)
            if kind == "environment":
                (self.problem,) = words
                continue
            if kind in ("show", "end"):
                self.task = words[0] if kind == "show" else ""
            getattr(self.bar, kind)(*words)

    def stop(self) -> None:
        """Asks it to save and end."""
        assert self.process.stdin
        with suppress(BrokenPipeError):
            self.process.stdin.close()

    def died(self) -> str:
        """How the ended process died; "" if it ended well.

        Raises:
            EnvironmentProblem: this machine cannot perform any task.
            KeyboardInterrupt: it was signalled.
        """
        self.listener.join()
        status = self.process.returncode
        if self.problem:
            raise EnvironmentProblem(self.problem)
        if status == STOPPED:
            raise KeyboardInterrupt
        return signal.Signals(-status).name if status < 0 else f"status {status}" * bool(status)


@contextmanager
def workers(job: Share, count: int, bar: Bar) -> Iterator[list[Worker]]:
    """Starts `count` workers. At the end they are stopped, and waited for while they save."""
    crew: list[Worker] = []
    try:
        for number in range(count):
            crew.append(Worker(job, number, bar))
        yield crew
    finally:
        with on_stop(second_interrupt):
            if crew:
                bar.write(f"waiting for {len(crew)} workers to save; Ctrl-C again ends the wait")
            for worker in crew:
                worker.stop()
            for worker in crew:
                worker.process.wait()


def second_interrupt(number: int, frame: object) -> None:
    """Ends the wait for workers at a second Ctrl-C; they save all the same."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt


def supervise(job: Share, count: int, spare: int, bar: Bar) -> None:
    """Waits for workers that share the tasks, and replaces those that die.

    `spare` workers may die before they have begun a task. Raises what Worker.died() raises.
    """
    with workers(job, count, bar) as crew:
        while crew:
            time.sleep(0.1)
            for worker in [w for w in crew if w.process.poll() is not None]:
                crew.remove(worker)
                if not (how := worker.died()):
                    continue
                if worker.task:
                    error = f"{worker.task}: its process ended with {how}; run again to resume"
                    record(worker.task, job.store, job.batch, error)
                    bar.fail(worker.task, error)
                    bar.end(worker.task)
                else:
                    bar.write(f"a worker ended with {how} before it began a task")
                    spare -= 1
                if spare >= 0:
                    crew.append(Worker(job, worker.number, bar))
