"""The jobs of a store: which are pending or running, and how they are ended. No torch."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple

from harness.base.errors import UserError
from harness.base.locks import claim
from harness.base.signals import stop_afterwards
from harness.launch.executors import EXECUTORS
from harness.launch.ledger import given, ledger, set_cancelled
from harness.launch.tickets import Line, SchedulerUnavailable, Ticket
from harness.study.store import Store

LEASE_S = 120  # how long a launch waits for another one into the same store


class Jobs(NamedTuple):
    """Pending and running jobs. A job that its scheduler does not know is lost and left out."""

    tickets: list[Ticket]  # also ended ones, as long as the scheduler remembers them
    by_task: dict[str, Ticket]
    untracked: list[Ticket]  # of launches that died before they wrote down what they submitted


def query_jobs(store: Store, executor: str = "") -> Jobs:
    """The jobs of the ledger, and untracked ones of its executors and of the one named.

    Raises:
        SchedulerUnavailable: there may be jobs, and the scheduler does not answer.
    """
    last, launches = given(store), {line["launch"] for line in ledger(store) if "job" in line}
    tickets = [
        ticket
        for name, lines in by_executor(last.values(), executor).items()
        for ticket in EXECUTORS[name].query(lines)
    ]
    untracked = [
        ticket
        for ticket in tickets
        if not ticket.ended
        and ticket.launch not in launches
        and (store.submissions() / ticket.launch / "launch.json").exists()
    ]
    tracked = [ticket for ticket in tickets if ticket.launch in launches]
    return Jobs(tracked, by_task(last, tracked), untracked)


def by_executor(lines: Collection[Line], also: str = "") -> dict[str, list[Line]]:
    names = {line["executor"] for line in lines} | ({also} if also else set())
    return {name: [line for line in lines if line["executor"] == name] for name in sorted(names)}


def by_task(last: dict[str, Line], tickets: Collection[Ticket]) -> dict[str, Ticket]:
    alive = {(t.executor, t.launch, t.job): t for t in tickets if not t.ended}
    keys = {task: (line["executor"], line["launch"], line["job"]) for task, line in last.items()}
    return {task: alive[key] for task, key in keys.items() if key in alive}


def jobs_or_last_known(store: Store) -> tuple[dict[str, Ticket], str]:
    """The jobs by task; while the scheduler is away, as last known; and a warning then."""
    try:
        return query_jobs(store).by_task, ""
    except SchedulerUnavailable as error:
        away = f"the scheduler does not answer ({error})"
    last = given(store)
    try:
        tickets = [
            ticket
            for name, lines in by_executor(last.values()).items()
            for ticket in EXECUTORS[name].last_known(lines)
        ]
    except SchedulerUnavailable:
        return {}, f"{away}: only the store is shown"
    return by_task(last, tickets), f"{away}: jobs are as accounting last recorded them"


@contextlib.contextmanager
def launch_lock(store: Store) -> Iterator[None]:
    """Within, nobody else submits or cancels.

    Raises:
        UserError: another launch holds the lock.
    """
    with claim(store.submissions() / "launch.lock", patience=LEASE_S) as mine:
        if not mine:
            raise UserError(
                f"{store.submissions() / 'launch.lock'} is locked by another launch:"
                " run this again when it has ended"
            )
        yield


def cancel(tasks: Collection[str], store: Store, executor: str = "") -> list[Ticket]:
    """Ends the jobs of these tasks, and untracked ones; no follower submits them again.

    Raises:
        SchedulerUnavailable: the scheduler does not answer, or refuses: nothing is written down.
    """
    with launch_lock(store):
        seen = query_jobs(store, executor)
        tickets = list({seen.by_task[task]: None for task in tasks if task in seen.by_task})
        withdraw(tickets + seen.untracked)
        set_cancelled(tasks, store, True)
    return tickets + seen.untracked


def stop(tasks: Collection[str], store: Store, executor: str) -> None:
    """Cancels the jobs of these tasks, and returns when they have saved and ended.

    Raises:
        KeyboardInterrupt: a second Ctrl-C ended the wait; the jobs save all the same.
    """
    with stop_afterwards():  # each job is to get its signal
        cancel(tasks, store, executor)
    while query_jobs(store, executor).by_task.keys() & set(tasks):
        time.sleep(0.2)


def withdraw(tickets: Collection[Ticket]) -> None:
    for name in sorted({ticket.executor for ticket in tickets}):
        EXECUTORS[name].cancel([ticket for ticket in tickets if ticket.executor == name])
