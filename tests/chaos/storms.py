"""Storms of signals: who is there, whom one hits and when, and what was written twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from helpers import ROOT, environment
from trials import table

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
MARK = "CHAOS_STORM"


@dataclass
class Storm:
    """Commands that are run again and again while signals hit them and their children at random."""

    chance: random.Random
    commands: list[list[str]]
    preload: str = ""
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    signals: Counter[str] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    living: dict[int, subprocess.Popen[str]] = field(default_factory=dict)

    def start(self, number: int) -> None:
        more = {MARK: self.mark} | ({"LD_PRELOAD": self.preload} if self.preload else {})
        self.living[number] = subprocess.Popen(
            [sys.executable, "-m", "harness", *self.commands[number]], env=environment(**more), cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip

    def ended(self, number: int, patience: float = 30) -> int:
        process = self.living.pop(number)
        _, err = process.communicate(timeout=patience)
        self.ends[process.returncode] += 1
        self.errors += [err] * (process.returncode not in (0, -signal.SIGKILL))
        return process.returncode

    def told(self) -> str:
        """The storm in a line. A traceback is no fault here: a signal may come while Python is starting."""
        tracebacks = sum("Traceback" in err for err in self.errors)
        return f"{dict(self.signals)}, commands ended {dict(self.ends)}, {tracebacks} with a traceback"

    def present(self) -> list[int]:
        """Every process of the storm, whoever started it: children inherit the mark."""
        return [pid for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))) if marked(pid, self.mark)]

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
        """`count` signals; a while after each, half the time as soon as something in the store has changed."""
        while self.signals.total() < count:
            for number in range(len(self.commands)):
                if number in self.living and self.living[number].poll() is not None:
                    self.ended(number)
                if number not in self.living:
                    self.start(number)
            if self.chance.random() < 0.5:
                changed(store, pause)
                time.sleep(self.chance.uniform(0, 0.3))
            else:
                time.sleep(self.chance.uniform(0, pause))
            self.strike()

    def calm(self, patience: float) -> list[int]:
        """Waits for all to end by themselves; who did not."""
        until = time.monotonic() + patience
        for number in list(self.living):
            self.ended(number, patience)
        while (there := self.present()) and time.monotonic() < until:
            time.sleep(0.1)
        return there


def marked(pid: int, mark: str) -> bool:
    try:
        return mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def zombies(parent: int) -> list[int]:
    """The children of a process that ended and were not waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, of = path.read_text().rpartition(") ")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(of) == parent:
            found.append(int(path.parent.name))
    return found


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
            for path in [*store.glob("runs/*/evals/*/*.json"), *store.glob("runs/*/checkpoints/*/ema.safetensors")]:
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


def strays(store: Path) -> list[str]:
    """Temporary files; nobody is writing any more."""
    return sorted(str(p.relative_to(store)) for p in store.rglob("*") if p.name.startswith((".", "tmp")))


def results(store: Path, tables: Path) -> dict[str, object]:
    """What must be the same to the byte: scores, logs, weights."""
    weights = sorted(store.glob("runs/*/checkpoints/*/ema.safetensors"))
    return {
        "scores": table(tables / "tiny.csv"), "log": table(tables / "tiny_log.csv"),
        "weights": {str(path.relative_to(store)): path.read_bytes() for path in weights},
    }  # fmt: skip
