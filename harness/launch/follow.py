"""Following a sweep until nothing is missing, in this terminal or in a job. No torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from harness.base.errors import UserError, user_errors
from harness.launch.dominated import end_dominated
from harness.launch.executors import EXECUTORS, executor
from harness.launch.hooks import run_hook
from harness.launch.jobs import query_jobs
from harness.launch.ledger import given
from harness.launch.logs import log_files, silence
from harness.launch.submit import FOLLOWER, Reconciled, submit
from harness.launch.tickets import Line, Ticket
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store

HOURLY_S = 3600  # a follower with nothing new to report says so that often


class Reporter:
    """Passes on what is new: a line that repeats is counted, and reported again after an hour."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        self.write_line, self.last, self.count, self.since = write_line, "", 0, time.monotonic()

    def __call__(self, line: str) -> None:
        self.count += 1
        hour = time.monotonic() - self.since > HOURLY_S
        if line != self.last or hour:
            repeats = f" (the {self.count}th time)" if line == self.last else ""
            self.last, self.since = line, time.monotonic()
            self.count = self.count if repeats else 1
            self.write_line(line + repeats)


def follow(
    sweep: Sweep,
    store: Store,
    cluster: Cluster,
    code: Path,
    write_line: Callable[[str], None],
    retry: bool = False,
    asked: bool = True,
    stopped: Sequence[int] = (),
) -> list[str]:
    """Submits until nothing is missing; each checkpoint is scored as soon as it is there.

    Returns the tasks that are left alone.

    Raises:
        UserError: the first time a person asks; later, and unasked, it is reported and tried again.
    """
    problems, failed = Reporter(write_line), set[str]()
    if not executor(cluster).REMOTE:  # the next task is the best one when a worker is free
        most = min(cluster.workers, cluster.max_jobs or cluster.workers)
        cluster = replace(cluster, max_jobs=most)
    while not stopped:
        try:
            with user_errors():
                done = submit(
                    sweep.name, partial(missing, sweep, store), store, cluster, code, retry, asked
                )
                end_silent(store, cluster, write_line)
                end_dominated(sweep, store, cluster, write_line)
                tasks = missing(sweep, store)
        except UserError as error:
            if asked:
                raise
            problems(f"{error}: retrying every {cluster.poll_seconds:g} s")
        else:
            report(done, failed, sweep, cluster, write_line)
            retry = asked = False
            names = {task.id for task in tasks}
            waiting = {task.id for task in tasks if not task.ready}
            taken = {task.id for task in done.submitted}
            problems(f"{len(done.held | taken)} jobs wait or run, {len(names)} tasks are missing")
            if not names & (done.held | taken | done.postponed) and names <= done.left | waiting:
                if not names:
                    run_hook(cluster.on_done, sweep, cluster)
                return sorted(names)
        if executor(cluster).DETACHED:
            pause(cluster.poll_seconds, stopped)
    return []


def report(
    done: Reconciled,
    failed: set[str],
    sweep: Sweep,
    cluster: Cluster,
    write_line: Callable[[str], None],
) -> None:
    """Says what was submitted and what is given up, each of these once; runs `on_failure`."""
    for task in done.submitted:
        write_line(f"submitted {task.id}: {task.reason}")
    for name in sorted(done.exhausted - failed):
        write_line(f"given up {name}")
        run_hook(cluster.on_failure, sweep, cluster, name)
    failed |= done.exhausted


def end_silent(store: Store, cluster: Cluster, write_line: Callable[[str], None]) -> None:
    """Ends running jobs that wrote nothing for `hang_minutes`; the next round submits again."""
    if cluster.hang_minutes is None:
        return
    last = given(store)
    for task, ticket in query_jobs(store).by_task.items():
        if hangs(last[task], ticket, 60 * cluster.hang_minutes):
            write_line(f"ended {task}: job {ticket.job} has written nothing for too long")
            EXECUTORS[ticket.executor].cancel([ticket])


def hangs(line: Line, ticket: Ticket, seconds: float) -> bool:
    """Whether a running job, and no follower, is silent for longer than that."""
    if ticket.state != "RUNNING" or ticket.seconds < seconds or line["task"].startswith(FOLLOWER):
        return False
    return (silence(log_files(line)) or 0) > seconds


def pause(seconds: float, stopped: Sequence[int]) -> None:
    until = time.monotonic() + seconds
    while not stopped and (left := until - time.monotonic()) > 0:
        time.sleep(min(1, left))
