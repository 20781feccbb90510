"""What failed in `harness run`: a line for each attempt, and the tracebacks of bugs. No torch."""

from __future__ import annotations

import datetime
import socket
import traceback
from contextlib import suppress
from typing import Any

from harness.base.files import append_lines, read_lines
from harness.study.store import Store


def record(task: str, store: Store, batch: str, error: str) -> None:
    """Appends the reason why a task failed, for `status` and for the workers of the same run."""
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    line = {"task": task, "error": error, "batch": batch, "node": socket.gethostname()}
    with suppress(OSError):  # a full disk may be the reason itself
        append_lines(store.failures(), [{**line, "date": date}])


def record_traceback(task: str, store: Store, error: Exception) -> str:
    """Appends a bug's whole traceback to a log in the store. Returns the error in one line."""
    log = store.failures().with_suffix(".log")
    head = f"{task} on {socket.gethostname()} at {datetime.datetime.now(datetime.UTC):%F %T} UTC"
    text = "".join(traceback.format_exception(error))
    with suppress(OSError), log.open("a") as file:
        file.write(f"{head}\n{text}\n")
    reason = next(iter(str(error).splitlines()), "")
    return f"{task}: {type(error).__name__}: {reason}{remedy(error)}; its traceback is in {log}"


def remedy(error: Exception) -> str:
    """What a person can do about an error that need not be a bug."""
    import torch

    full = isinstance(error, MemoryError | torch.OutOfMemoryError)
    if full or "can't allocate memory" in str(error):  # what torch raises on the CPU
        return ": set a smaller microbatch (training) or sampling_batch (scoring)"
    return ""


def failures(store: Store) -> dict[str, dict[str, Any]]:
    """The line of each task's latest failure."""
    lines = read_lines(store.failures())[0] if store.failures().exists() else []
    return {line["task"]: line for line in lines if {"task", "error", "batch"} <= line.keys()}


def failed_in(batch: str, store: Store) -> set[str]:
    """The tasks that failed in this run, in any of its workers."""
    return {task for task, line in failures(store).items() if line["batch"] == batch}
