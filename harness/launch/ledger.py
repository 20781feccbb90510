"""The ledger: which jobs ran which tasks, how they ended, and what was cancelled. No torch."""

from __future__ import annotations

import datetime
import functools
import getpass
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import append_lines, read_lines
from harness.launch.tickets import Line
from harness.study.store import Store

# The kinds of lines, each by the field that marks it: a job of a task, how it ended, a withdrawal.
KINDS: Mapping[str, Mapping[str, type]] = {
    "job": {
        "task": str,
        "executor": str,
        "launch": str,
        "name": str,
        "log": str,
        "at": int,
        "retry": bool,
        "job": str,
    },
    "ended": {"task": str, "ended": str, "of": str, "node": str, "seconds": int, "error": str},
    "cancelled": {"task": str, "cancelled": bool},
}


def read_ledger(store: Store) -> tuple[list[Line], list[str]]:
    """The lines of the ledger, and a warning for each that is torn or no line of a ledger."""
    try:
        with store.ledger().open("rb") as file:  # opened, NFS has the state of now
            seen = os.fstat(file.fileno())
    except FileNotFoundError:
        return [], []
    lines, warnings = decoded(store.ledger(), seen.st_ino, seen.st_size, seen.st_mtime_ns)
    return [*lines], [*warnings]


@functools.lru_cache(maxsize=1)
def decoded(path: Path, *state: int) -> tuple[list[Line], list[str]]:
    """What a ledger in that state holds: one verb asks for it up to nine times."""
    lines, warnings = read_lines(path)
    known = [(line, is_known(line)) for line in lines]
    warnings += [
        f"{path}: skipped what is not a line of a ledger: {json.dumps(line)[:60]}"
        for line, ours in known
        if not ours
    ]
    return [line for line, ours in known if ours], warnings


def is_known(line: Line) -> bool:
    kind = next((kind for kind in KINDS if kind in line), None)
    return kind is not None and all(type(line.get(k)) is t for k, t in KINDS[kind].items())


def ledger(store: Store) -> list[Line]:
    return read_ledger(store)[0]


def given(store: Store) -> dict[str, Line]:
    """The line of each task's latest job."""
    return {line["task"]: line for line in ledger(store) if "job" in line}


def endings(store: Store) -> dict[tuple[str, str], Line]:
    """How jobs ended that did not finish their task, by launch and task."""
    return {(line["of"], line["task"]): line for line in ledger(store) if "ended" in line}


def cancelled(store: Store) -> dict[str, str]:
    """Tasks that were withdrawn and that nobody has asked for since; why, where a follower did."""
    last = {line["task"]: line for line in ledger(store) if "ended" not in line}
    return {task: line.get("why", "") for task, line in last.items() if line.get("cancelled")}


def set_cancelled(tasks: Iterable[str], store: Store, withdrawn: bool, why: str = "") -> None:
    """Writes down that a person withdraws tasks, or a follower and why, or that they are wanted."""
    line = {"cancelled": withdrawn, "user": getpass.getuser(), "date": now()}
    line |= {"why": why} if why else {}
    append_lines(store.ledger(), ({"task": task, **line} for task in tasks))


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def find(task: str, store: Store) -> Line:
    """The line of a task's latest job, by its id or the beginning of it.

    Raises:
        UserError: none, or several.
    """
    return find_all(task, store)[-1]


def find_all(task: str, store: Store) -> list[Line]:
    """The lines of all jobs of one task, by its id or the beginning of it.

    Raises:
        UserError: no such task, or several.
    """
    jobs = [line for line in ledger(store) if "job" in line]
    names = {line["task"]: None for line in jobs}
    begins = task.replace("/", "-")  # a model begins the ids of its runs
    fits = [task] if task in names else [name for name in names if name.startswith(begins)]
    if not names:
        raise UserError(
            f"{store.ledger()} has no job, so there is no log of {task!r}: harness launch makes"
            " jobs; harness show RUN has what harness run did"
        )
    if len(fits) != 1:
        problem = "several" if fits else "not"
        listed = ", ".join(fits or names)
        raise UserError(f"task {task!r} is {problem} in {store.ledger()}: name one of: {listed}")
    return [line for line in jobs if line["task"] == fits[0]]


def as_line(task: str, **fields: Any) -> Line:
    return {"task": task, **fields, "date": now()}
