"""How jobs ended: what counts as a try, which node is to blame, when to try again. No torch."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from harness.base.files import append_lines
from harness.launch.executors import EXECUTORS
from harness.launch.ledger import as_line, endings, ledger
from harness.launch.logs import ENVIRONMENT, last_error
from harness.launch.tickets import Line, SchedulerUnavailable, Ticket
from harness.study.store import Store

QUICK_S = 60  # a job that fails sooner after its start may have met a broken node
NODE_FAULTS = ("FAILED", "NODE_FAIL", "BOOT_FAIL")  # and none that a person or a limit ended
EXCLUDED = 8  # nodes at most: beyond that the fault is not the nodes'
EXCLUDED_S = 24 * 3600
LONGEST_WAIT_S = 3600


class Tries(NamedTuple):
    """The jobs of a task in a row that ended without its result or progress."""

    jobs: int = 0
    at: int = -1  # where the last one began
    node_faults: int = 0  # those among them that are blamed on a node
    memory_faults: int = 0
    last: Line | None = None  # the latest job or ending
    error: str = ""  # of the latest that has one

    @property
    def suspect(self) -> str:
        """The node on which the last job failed at once while others worked elsewhere, or ""."""
        return str(self.last["node"]) if self.last and is_node_fault(self.last) else ""

    def is_exhausted(self, retries: int) -> bool:
        """Whether the task has failed that often by itself, or twice that often at all."""
        return self.jobs - min(self.node_faults, retries) >= retries


def tries(store: Store) -> dict[str, Tries]:
    """The tries of each task. Progress, --retry and being cancelled reset the count."""
    lines = ledger(store)
    bad, found = bad_nodes(lines), dict[str, Tries]()
    for line in lines:
        old = found.get(line["task"], Tries())
        if "ended" in line:
            found[line["task"]] = old._replace(
                node_faults=old.node_faults + (is_node_fault(line) and line["node"] in bad),
                memory_faults=old.memory_faults + (line["ended"] == "OUT_OF_MEMORY"),
                last=line,
                error=line["error"] or old.error,
            )
        elif "job" not in line:
            found[line["task"]] = Tries()
        elif line["retry"] or line["at"] > old.at:
            found[line["task"]] = Tries(1, line["at"], last=line)
        else:
            found[line["task"]] = old._replace(jobs=old.jobs + 1, at=line["at"], last=line)
    return found


def is_node_fault(line: Line) -> bool:
    return bool(line.get("suspect") or line.get("environment"))


def bad_nodes(lines: Iterable[Line]) -> dict[str, str]:
    """The nodes that are to blame for ends of jobs, with the date of the last.

    Two tasks failed there at once while others ran elsewhere, or one saw no GPU.
    """
    tasks: dict[str, set[str]] = {}
    found: dict[str, str] = {}
    for line in lines:
        if "ended" in line and is_node_fault(line) and line["node"]:
            tasks.setdefault(line["node"], set()).add(line["task"])
            if line.get("environment") or len(tasks[line["node"]]) > 1:
                found[line["node"]] = line.get("date", "")
    return found


def excluded(store: Store) -> list[str]:
    """The nodes that turned out bad within a day, the latest of them."""
    dates = bad_nodes(ledger(store))
    recent = [node for node, date in dates.items() if age(date) < EXCLUDED_S]
    return sorted(recent, key=dates.__getitem__)[-EXCLUDED:]


def age(date: str) -> float:
    """Seconds since a date in the ledger."""
    try:
        then = datetime.datetime.fromisoformat(date)
        return (datetime.datetime.now(datetime.UTC) - then).total_seconds()
    except (ValueError, TypeError):  # edited by hand, or without a time zone
        return float("inf")


def waits(tried: Tries, poll_seconds: float, latency_seconds: float) -> bool:
    """Whether a task is not to be submitted yet: its files may still arrive, or it just failed.

    A node that fails every job would otherwise use up all tries within minutes.
    """
    if tried.last is None or "ended" not in tried.last:
        return False
    since = age(tried.last.get("date", ""))
    if tried.last["ended"] == "COMPLETED" and since < latency_seconds:
        return True
    return since < min(LONGEST_WAIT_S, poll_seconds * 2 ** (tried.jobs - 1))


def record_endings(
    tasks: Collection[str], last: Mapping[str, Line], tickets: Collection[Ticket], store: Store
) -> None:
    """Writes down how the latest jobs of these tasks ended, where that is not written down yet."""
    known = endings(store)
    lines = [last[task] for task in tasks if task in last]
    new = [line for line in lines if (line["launch"], line["task"]) not in known]
    if new:
        by_job = {(t.launch, t.job): t for t in [*forgotten(new, tickets), *tickets]}
        append_lines(store.ledger(), [ending(line, by_job, tickets) for line in new])


def forgotten(lines: Collection[Line], tickets: Collection[Ticket]) -> list[Ticket]:
    """What a slower source knows of jobs that their scheduler no longer does."""
    there = {(ticket.launch, ticket.job) for ticket in tickets}
    lost = [line for line in lines if (line["launch"], line["job"]) not in there]
    found = []
    for name in sorted({line["executor"] for line in lost}):
        try:
            found += EXECUTORS[name].last_known([x for x in lost if x["executor"] == name])
        except SchedulerUnavailable:  # no accounting: how it ended stays unknown
            continue
    return found


def ending(
    line: Line, by_job: Mapping[tuple[str, str], Ticket], tickets: Collection[Ticket]
) -> Line:
    ticket = by_job.get((line["launch"], line["job"]))
    state, node, seconds = (
        (ticket.state, ticket.node, ticket.seconds) if ticket else ("UNKNOWN", "", 0)
    )
    error = last_error(line)
    return as_line(
        line["task"],
        ended=state,
        of=line["launch"],
        node=node,
        seconds=seconds,
        error=error,
        environment=error.startswith(ENVIRONMENT),
        suspect=state in NODE_FAULTS and is_suspect(node, seconds, tickets),
    )


def is_suspect(node: str, seconds: int, tickets: Collection[Ticket]) -> bool:
    """Whether a job ended at once while another lasted longer or was completed elsewhere."""
    return (
        bool(node)
        and seconds < QUICK_S
        and any(
            t.node
            and t.node != node
            and (t.state == "COMPLETED" or (not t.ended and t.seconds > seconds))
            for t in tickets
        )
    )
