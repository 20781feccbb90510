"""The ledger: which job was given which task, how often, and what its log says. No torch."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.store import Store, read_lines


def ledger(store: Store) -> list[dict[str, Any]]:
    return read_lines(store.ledger())[0] if store.ledger().exists() else []


def worn_out(store: Store, retries: int) -> set[str]:
    """Tasks whose last submissions ended without a result; launching with --retry forgets the earlier ones."""
    tries: Counter[str] = Counter()
    for line in ledger(store):
        tries[line["task"]] = 1 if line["retry"] else tries[line["task"]] + 1
    return {task for task, count in tries.items() if count >= retries}


def find(task: str, store: Store) -> dict[str, Any]:
    """The latest line of the ledger of a task, by its id or the beginning of it.

    Raises:
        ValueError: none, or several.
    """
    last = {line["task"]: line for line in ledger(store)}
    names = [task] if task in last else [name for name in last if name.startswith(task)]
    if len(names) != 1:
        known = ", ".join(names or last) or "none"
        raise ValueError(f"task {task!r} is {'several' if names else 'not'} in {store.ledger()}: name one of: {known}")
    return last[names[0]]


def log_text(path: Path, ended: Callable[[], bool]) -> Iterator[str]:
    """What a log holds and what comes to it, until the job has ended."""
    with path.open(errors="replace") as file:
        while True:
            over = ended()  # asked first: what is written after it is read the next time
            while text := file.read(1 << 16):
                yield text
            if over:
                return
            time.sleep(1)


def last_error(path: str) -> str:
    """The last line a job wrote to its log that is no progress."""
    with contextlib.suppress(OSError):
        lines = [line for line in Path(path).read_text(errors="replace").splitlines() if line.strip()]
        return next((line for line in reversed(lines) if not line.split()[0].endswith("%")), "")
    return ""
