"""What the trials share: their length, verbs run in this process, the outcome of one, the count."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.cli import main as cli

LONG = bool(os.environ.get("CHAOS"))  # set by make chaos
# Columns that say when and where a number was computed.
CLOCK = frozenset({"seconds", "images_per_second", "mfu", "commit", "device", "date"})
LOGS = (".log", ".err", ".out", ".txt")
TRACEBACK = "Traceback (most recent"
LONGEST_LINE = 5000
FINE = ("harmless", "reported")

Row = tuple[tuple[str, str], ...]


@dataclass
class Result:
    """Exit status and output of a verb; `status` is None where an exception escaped."""

    status: int | None
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def is_one_line(self) -> bool:
        """Whether the verb failed with one line for a person; a progress bar may come before it."""
        lines = [line for line in self.err.splitlines() if line.startswith("harness: ")]
        return self.status == 1 and len(lines) == 1 and len(lines[0]) < LONGEST_LINE


def verb(*words: object) -> Result:
    """Runs `harness …` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: int | None = cli.main([str(word) for word in words])
        except Exception:
            status = None
            traceback.print_exc(file=err)
    return Result(status, out.getvalue(), err.getvalue())


@dataclass
class Tally:
    """How many trials ended in which way, and those that broke the law."""

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, end: str, trial: object, results: list[Result]) -> None:
        self.ends[end] += 1
        if end not in FINE:
            last = [line for one in results for line in one.text.strip().splitlines()[-1:]]
            self.faults.append(f"{end}: {trial}: {' | '.join(last)[:500]}")

    def check(self) -> None:
        """Prints the counts; fails with one example of each fault."""
        print(f"{self.name}: {self.ends.total()} tried: {dict(self.ends)}")
        kinds = {line.split(": ")[-1][:80]: line for line in reversed(self.faults)}
        examples = "\n".join(list(kinds.values())[:8])
        assert not self.faults, f"{self.name}: {len(self.faults)} faults, such as\n{examples}"


def has_traceback(results: list[Result], folder: Path) -> bool:
    """Whether a traceback was printed, or written to a log below the folder."""
    if any(one.status is None or TRACEBACK in one.text for one in results):
        return True
    logs = (path for path in folder.rglob("*") if path.suffix in LOGS and path.is_file())
    return any(TRACEBACK.encode() in path.read_bytes() for path in logs)


def table(path: Path, free: frozenset[str] = CLOCK) -> list[Row]:
    """The rows of a CSV without the free columns; [] where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [tuple((key, value) for key, value in row.items() if key not in free) for row in rows]


def arrays_of(path: Path) -> list[bytes]:
    """The bytes of all arrays of an npz; [] where there is no file."""
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as file:
        return [file[name].tobytes() for name in sorted(file)]


def temporary_files(folder: Path) -> list[str]:
    """Files that a writer left behind."""
    names = (path for path in folder.rglob("*") if path.name.startswith((".", "tmp")))
    return sorted(str(path.relative_to(folder)) for path in names)
