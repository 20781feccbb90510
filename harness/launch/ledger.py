"""The ledger: which job was given which task, how often, what was cancelled, and what a log says. No torch."""

from __future__ import annotations

import datetime
import getpass
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import append_lines, read_lines
from harness.study.store import Store


def ledger(store: Store) -> list[dict[str, Any]]:
    return read_lines(store.ledger())[0] if store.ledger().exists() else []


def given(store: Store) -> dict[str, dict[str, Any]]:
    """The line of each task's latest job."""
    return {line["task"]: line for line in ledger(store) if "job" in line}


def cancelled(store: Store) -> set[str]:
    """Tasks that a person withdrew, and that nobody has asked for since."""
    last = {line["task"]: line for line in ledger(store)}
    return {task for task, line in last.items() if line.get("cancelled")}


def mark(tasks: Iterable[str], store: Store, withdrawn: bool) -> None:
    """Writes down that a person withdraws tasks, or asks for them again."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"cancelled": withdrawn, "user": getpass.getuser(), "date": date}
    append_lines(store.ledger(), ({"task": task, **line} for task in tasks))


def tries(store: Store) -> dict[str, tuple[int, int]]:
    """Of each task: its jobs in a row that began no further than the one before, and where the last one began.

    Progress, --retry and being cancelled make the count begin anew.
    """
    found: dict[str, tuple[int, int]] = {}
    for line in ledger(store):
        count, at = found.get(line["task"], (0, -1))
        if "job" not in line:
            found[line["task"]] = 0, -1
        else:
            found[line["task"]] = 1 if line["retry"] or line["at"] > at else count + 1, line["at"]
    return found


def find(task: str, store: Store) -> dict[str, Any]:
    """The line of a task's latest job, by its id or the beginning of it.

    Raises:
        ValueError: none, or several.
    """
    last = given(store)
    names = [task] if task in last else [name for name in last if name.startswith(task)]
    if len(names) != 1:
        known = ", ".join(names or last) or "none"
        raise UserError(
            f"task {task!r} is {'several' if names else 'not'} in {store.ledger()}: name one of: {known}"
        )
    return last[names[0]]


def log_text(path: Path, ended: Callable[[], bool], every: float) -> Iterator[str]:
    """What a log holds and what comes to it, until the job has ended: asked every so many seconds."""
    over, due = False, 0.0
    with path.open(errors="replace") as file:
        while True:
            if time.monotonic() >= due:
                over, due = (
                    ended(),
                    time.monotonic() + every,
                )  # before reading: what comes later is read the next time
            while text := file.read(1 << 16):
                yield text
            if over:
                return
            time.sleep(min(1, every))


def last_error(path: str) -> str:
    """The last line a job wrote to its log that is no progress."""
    try:
        lines = [
            line for line in Path(path).read_text(errors="replace").splitlines() if line.strip()
        ]
    except OSError:
        return "no log: it never began, or its node does not see the store"
    return next((line for line in reversed(lines) if not line.split()[0].endswith("%")), "")
