"""Storms of signals: the processes there are, the next to be hit, and files written twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from helpers import ROOT, environment
from trials import table

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MARK = "CHAOS_STORM"


@dataclass
class Storm:
    """Verbs that are started again and again while signals hit them and their children.

    words: what every verb is given; variables: of their environment.
    """

    chance: random.Random
    commands: list[list[str]]
    variables: dict[str, str] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    signals: Counter[str] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    living: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    outputs: dict[int, IO[bytes]] = field(default_factory=dict)

    def start(self, number: int) -> None:
        more = {MARK: self.mark, **self.variables}
        # No pipe: local jobs keep it open when their launch has ended.
        file = tempfile.TemporaryFile()  # noqa: SIM115
        self.living[number] = process = subprocess.Popen(
            [sys.executable, "-m", "harness", *self.commands[number], *self.words],
            env=environment(**more),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
        self.outputs[process.pid] = file

    def reap(self, number: int, patience: float = 60) -> int:
        process = self.living.pop(number)
        process.wait(timeout=patience)
        with self.outputs.pop(process.pid) as file:
            file.seek(0)
            err = file.read().decode(errors="replace")
        self.ends[process.returncode] += 1
        self.errors += [err] * (process.returncode not in (0, -signal.SIGKILL))
        return process.returncode

    def summary(self) -> str:
        """The storm in a line. A traceback is no fault: a signal may come while Python starts."""
        tracebacks = sum("Traceback" in err for err in self.errors)
        last = Counter(line[-100:] for err in self.errors for line in err.strip().splitlines()[-1:])
        return (
            f"{self.signals.total()} signals {dict(self.signals)}, exits {dict(self.ends)},"
            f" {tracebacks} with a traceback; last lines: {dict(last)}"
        )

    def present(self) -> list[int]:
        """Every process of the storm: children inherit the mark."""
        return [
            pid
            for pid in map(int, filter(str.isdecimal, os.listdir("/proc")))
            if marked(pid, self.mark)
        ]

    def strike(self) -> None:
        """One signal at one process, or at a whole group as a terminal sends it."""
        there = self.present()
        if not there:
            return
        number, pid = self.chance.choice(SIGNALS), self.chance.choice(there)
        try:
            if number in (signal.SIGINT, signal.SIGHUP) and self.chance.random() < 0.5:
                os.killpg(os.getpgid(pid), number)
            else:
                os.kill(pid, number)
            self.signals[number.name] += 1
        except ProcessLookupError:
            pass

    def rage(self, count: int, pause: float, store: Path) -> None:
        """Sends `count` signals, half of them just after something in the store has changed."""
        while self.signals.total() < count:
            for number in range(len(self.commands)):
                if number in self.living and self.living[number].poll() is not None:
                    self.reap(number)
                if number not in self.living:
                    self.start(number)
            if self.chance.random() < 0.5:
                changed(store, pause)
                time.sleep(self.chance.uniform(0, 0.3))
            else:
                time.sleep(self.chance.uniform(0, pause))
            self.strike()

    def remaining(self, patience: float) -> list[int]:
        """Waits until all have ended by themselves; those that did not."""
        until = time.monotonic() + patience
        for number in list(self.living):
            self.reap(number, patience)
        while (there := self.present()) and time.monotonic() < until:
            time.sleep(0.1)
        return there

    def clear(self) -> None:
        """Ends whatever a failed test leaves."""
        for pid in self.present():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def marked(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def changed(store: Path, seconds: float) -> None:
    """Waits until a log grew or a file came, at most so long."""

    def seen() -> tuple[int, int]:
        logs = list(store.glob("runs/*/log.*"))
        return len(list(store.glob("runs/*/*/*/*"))), sum(path.stat().st_size for path in logs)

    before, until = seen(), time.monotonic() + seconds
    while time.monotonic() < until and seen() == before:
        time.sleep(0.01)


@contextmanager
def watched(store: Path) -> Iterator[dict[Path, list[tuple[int, int]]]]:
    """Every version of each record and of each scored checkpoint that appeared meanwhile."""
    versions: dict[Path, list[tuple[int, int]]] = {}
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for path in [
                *store.glob("runs/*/evals/*/*.json"),
                *store.glob("runs/*/checkpoints/*/ema.safetensors"),
            ]:
                try:
                    stat = path.stat()
                except FileNotFoundError:
                    continue
                version = stat.st_ino, stat.st_mtime_ns
                if version not in versions.setdefault(path, []):
                    versions[path].append(version)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield versions
    finally:
        done.set()
        thread.join()


def results(store: Path) -> dict[str, list[object]]:
    """What must be identical: scores, logs, weights."""
    weights = sorted(store.glob("runs/*/checkpoints/*/ema.safetensors"))
    return {
        "scores": list(table(store / "tables" / "tiny.csv")),
        "log": list(table(store / "tables" / "tiny_log.csv")),
        "weights": [(str(path.relative_to(store)), path.read_bytes()) for path in weights],
    }
