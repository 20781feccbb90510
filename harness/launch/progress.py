"""The progress bar of `harness run`, fed here or by the lines of workers. No torch."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from harness.study.tasks import Task

WAITS_S = 60  # between two lines that name who holds a task


class Reporter(Protocol):
    """Where the attempts at tasks report."""

    failed: dict[str, str]  # error lines, by task

    def show(self, task: str, news: str, share: float) -> None:
        """A task is in progress, and `share` of it is done."""

    def end(self, task: str) -> None:
        """A task is over, well or not."""

    def fail(self, task: str, error: str) -> None:
        """A task failed, for the reason given in one line."""

    def wait(self, reason: str) -> None:
        """Nothing can be done at present."""


class Bar:
    """One bar over all tasks, in operations; without a terminal, a line every ten seconds."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        tty = sys.stderr.isatty()
        self.failed: dict[str, str] = {}
        self.sizes = {task.id: task.size for task in tasks}
        self.shares: dict[str, float] = {}
        self.active: set[str] = set()
        self.waited = time.monotonic()
        self.lock = threading.Lock()  # each worker has a thread that reports
        self.bar = tqdm(
            total=100.0,
            mininterval=0.2 if tty else 10,
            file=sys.stderr,
            dynamic_ncols=tty,
            ascii=not tty,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} elapsed, {remaining} to go  {desc}",
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.bar.close()

    def show(self, task: str, news: str, share: float) -> None:
        self.active.add(task)
        self.update(task, news, share)

    def end(self, task: str) -> None:
        self.active.discard(task)
        self.update(task, "", 1.0)

    def fail(self, task: str, error: str) -> None:
        self.failed[task] = error
        self.write(f"failed: {error}")

    def wait(self, reason: str) -> None:
        if not self.active and time.monotonic() - self.waited > WAITS_S:
            self.waited = time.monotonic()
            self.write(reason)

    def update(self, task: str, news: str, share: float) -> None:
        # A closed terminal must not end a training before it has saved.
        with self.lock, suppress(OSError):
            self.shares[task] = share
            done = sum(self.shares.get(name, 0.0) * size for name, size in self.sizes.items())
            self.bar.set_description_str(news, refresh=False)
            self.bar.update(100 * done / max(1e-9, sum(self.sizes.values())) - self.bar.n)

    def write(self, line: str) -> None:
        with suppress(OSError):
            self.bar.write(line, file=sys.stderr)


class Pipe:
    """Reports as JSON lines to the process that started this one."""

    def __init__(self, file: TextIO) -> None:
        self.failed: dict[str, str] = {}
        self.file = file

    def show(self, task: str, news: str, share: float) -> None:
        self.send("show", task, news, share)

    def end(self, task: str) -> None:
        self.send("end", task)

    def fail(self, task: str, error: str) -> None:
        self.failed[task] = error
        self.send("fail", task, error)

    def wait(self, reason: str) -> None:
        self.send("wait", reason)

    def send(self, *words: Any) -> None:
        with suppress(BrokenPipeError):  # that process is gone, and the end of stdin stops this one
            self.file.write(json.dumps(words) + "\n")
            self.file.flush()
