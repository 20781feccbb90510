"""The jobs of a store: which wait or run, by the queue, by accounting, by this machine; and their end. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import NamedTuple

from harness.base.errors import UserError
from harness.base.files import claim
from harness.launch import local, slurm
from harness.launch.ledger import given, ledger, mark
from harness.launch.slurm import Down, Ticket
from harness.study.store import Store

LEASE_S = 120  # how long a launch waits for another one into the same store


class Seen(NamedTuple):
    """What waits or runs; what nobody knows of is lost, and not among it."""

    jobs: dict[str, Ticket]  # by task
    strays: list[Ticket]  # of launches that died before they wrote down what they had submitted


def look(store: Store, name: str | None = None) -> Seen:
    """The jobs of the ledger that are not over, and strays of its sweeps and of the sweep of that name on Slurm.

    Raises:
        Down: there may be Slurm jobs, and the scheduler does not answer.
    """
    last, launches = given(store), {line["launch"] for line in ledger(store) if "job" in line}
    here = local.living([line["job"] for line in last.values() if line["executor"] == "local"])
    alive = {("local", job): ticket for job, ticket in here.items()}
    names = {line["name"] for line in last.values() if line["executor"] == "slurm"}
    strays = []
    for ticket, launch in slurm.queue(names | ({name} if name else set())):
        if launch in launches:
            alive[launch, ticket.job] = ticket
        elif (store.submissions() / launch / "launch.json").exists():
            strays.append(ticket)
    keys = {
        task: (x["launch"] if x["executor"] == "slurm" else "local", x["job"])
        for task, x in last.items()
    }
    return Seen({task: alive[key] for task, key in keys.items() if key in alive}, strays)


def known(store: Store) -> tuple[dict[str, Ticket], str]:
    """The jobs by task; while the scheduler is away, what accounting heard of them; and what is to be said of it."""
    try:
        return look(store).jobs, ""
    except Down as error:
        away = f"the scheduler does not answer ({error})"
    tasks = {
        line["job"]: task for task, line in given(store).items() if line["executor"] == "slurm"
    }
    try:
        heard = {tasks[job]: ticket for job, ticket in slurm.accounts(tasks).items()}
    except Down:
        return {}, f"{away}: this is the store only"
    return heard, f"{away}: jobs are as accounting last heard of them"


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """While this lasts, nobody else submits or cancels.

    Raises:
        ValueError: another launch does not let go.
    """
    with claim(store.submissions() / "launch.lock", patience=LEASE_S) as mine:
        if not mine:
            raise UserError(
                f"another launch into {store.root} is at work: run this again when it has ended"
            )
        yield


def cancel(tasks: Collection[str], store: Store, name: str | None) -> list[Ticket]:
    """Ends the jobs of these tasks, and strays; no follower submits them again. What they have done stays.

    Raises:
        Down: the scheduler does not answer, or refuses: nothing is written down.
    """
    with alone(store):
        seen = look(store, name)
        tickets = [seen.jobs[task] for task in tasks if task in seen.jobs] + seen.strays
        withdraw(tickets)
        mark(tasks, store, True)
    return tickets


def withdraw(tickets: Collection[Ticket]) -> None:
    for executor, cancel_jobs in (("slurm", slurm.cancel), ("local", local.cancel)):
        cancel_jobs([ticket.job for ticket in tickets if ticket.executor == executor])
