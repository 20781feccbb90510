"""One task from claim to result, and many tasks side by side on this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from typing import cast

from tqdm import tqdm

from harness.base.errors import Locked, UserError, user_errors
from harness.base.files import is_claimed
from harness.launch.perform import perform, set_threads
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Progress, Task


class Bar:
    """One progress bar over all tasks, in operations; lines every ten seconds where there is no terminal."""

    def __init__(self, tasks: list[Task]) -> None:
        tty = sys.stderr.isatty()
        self.shares: dict[str, float] = {}
        self.sizes = {task.id: task.size for task in tasks}
        self.bar = tqdm(
            total=100.0,
            mininterval=0.2 if tty else 10,
            file=sys.stderr,
            dynamic_ncols=tty,
            ascii=not tty,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} elapsed, {remaining} to go  {desc}",
        )
        self.told = time.monotonic()

    def tell(self, task: str, news: str, share: float) -> None:
        self.shares[task] = share
        self.bar.set_description_str(news, refresh=False)
        done = sum(self.shares.get(name, 0.0) * size for name, size in self.sizes.items())
        self.bar.update(100 * done / max(1e-9, sum(self.sizes.values())) - self.bar.n)

    def say(self, line: str) -> None:
        self.bar.write(line, file=sys.stderr)


def run_all(sweep: Sweep, store: Store, cluster: Cluster) -> list[str]:
    """Does every missing task here; the error lines of those that failed."""
    bar, failed, errors = Bar(missing(sweep, store)), set[str](), list[str]()

    def ready(mine: set[str]) -> list[Task]:
        """What can begin, the longest first: the last worker then ends soonest. [] when only waiting is left."""
        while True:
            left = [t for t in missing(sweep, store) if t.id not in failed and t.ready]
            free = [t for t in left if t.id not in mine and not is_claimed(t.claim(store))]
            if free or mine or not left:
                return sorted(free, key=lambda task: task.size, reverse=True)
            time.sleep(
                1
            )  # another process is at what is left: wait for it rather than call it a failure

    def ended(task: Task, error: str | None) -> None:
        bar.tell(task.id, "", 1.0)
        if error:
            failed.add(task.id)
            errors.append(error)
            bar.say(f"failed: {error}")

    alone = cluster.workers == 1 or "RANK" in os.environ
    try:
        (one_by_one if alone else side_by_side)(ready, store, cluster, bar, ended)
    finally:
        bar.bar.close()
    return errors


def with_bar(task: Task, store: Store, cluster: Cluster) -> None:
    """One task here, with a progress bar on the first rank; raises what `perform` raises."""
    if os.environ.get("RANK", "0") != "0":
        perform(task, store, cluster, lambda *_: None)
        return
    bar = Bar([task])
    try:
        perform(task, store, cluster, partial(bar.tell, task.id))
    finally:
        bar.bar.close()


Ready = Callable[[set[str]], list[Task]]
Ended = Callable[[Task, str | None], None]


def one_by_one(ready: Ready, store: Store, cluster: Cluster, bar: Bar, ended: Ended) -> None:
    set_threads(cluster)
    while tasks := ready(set()):
        task = tasks[0]
        ended(task, attempt(task, store, cluster, partial(bar.tell, task.id)))


def attempt(task: Task, store: Store, cluster: Cluster, tell: Progress) -> str | None:
    """The error line of a task that failed for a reason a person can mend."""
    try:
        with user_errors():
            perform(task, store, cluster, tell)
    except Locked:
        return None  # another process was quicker: the task is done by it, or missing again
    except UserError as error:
        return str(error)
    return None


def side_by_side(ready: Ready, store: Store, cluster: Cluster, bar: Bar, ended: Ended) -> None:
    """A scheduler of `cluster.workers` processes: whenever one is free, the longest ready task goes to it."""
    with workers(cluster.workers, store, cluster) as idle:
        busy: dict[Connection, Task] = {}
        while True:
            if idle:
                for task in ready({task.id for task in busy.values()})[: len(idle)]:
                    connection = idle.pop()
                    connection.send(task)
                    busy[connection] = task
            if not busy:
                return
            for spoken in wait(list(busy), timeout=1.0):
                listen(cast(Connection, spoken), busy, idle, bar, ended)


def listen(
    connection: Connection,
    busy: dict[Connection, Task],
    idle: list[Connection],
    bar: Bar,
    ended: Ended,
) -> None:
    """One message of one worker: news, or the end of its task, or its own end."""
    task = busy[connection]
    try:
        kind, *content = connection.recv()
    except EOFError:
        kind, content = "died", [f"{task.id}: its process died; run the same command to go on"]
    if kind == "news":
        bar.tell(task.id, *content)
        return
    del busy[connection]
    if kind == "interrupted":
        raise KeyboardInterrupt
    if kind == "ended":
        idle.append(connection)
    ended(task, content[0])


@contextmanager
def workers(count: int, store: Store, cluster: Cluster) -> Iterator[list[Connection]]:
    """Connections to `count` fresh processes. At the end they are told to stop, save, and are waited for."""
    context = multiprocessing.get_context("spawn")
    processes, ours = [], []
    signal.signal(
        signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT)
    )  # the same end, in good order
    for _ in range(count):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, store, cluster), daemon=True)
        process.start()
        there.close()  # so that the death of the worker is the end of the pipe
        processes.append(process)
        ours.append(here)
    try:
        yield ours
    finally:
        for process in processes:
            process.terminate()  # a flag to a task, the end of an idle worker
        for process in processes:
            process.join()


def serve(connection: Connection, store: Store, cluster: Cluster) -> None:
    """A worker's life: a task, its news, its end, and again, until the pipe ends."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # a Ctrl-C reaches the parent too, and it knows what to do
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(0)
    )  # while idle; a task has its own way to stop

    def tell(*news: object) -> None:
        try:
            connection.send(("news", *news))
        except BrokenPipeError:  # the parent is gone: save and end
            os.kill(os.getpid(), signal.SIGTERM)

    set_threads(cluster)
    with suppress(EOFError, BrokenPipeError):
        while True:
            try:
                connection.send(("ended", attempt(connection.recv(), store, cluster, tell)))
            except KeyboardInterrupt:
                connection.send(("interrupted",))
                return
