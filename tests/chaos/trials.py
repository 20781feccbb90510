"""What the trials share: how long they are, verbs run in this process, what may follow a fault, and the count."""

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

LONG = bool(os.environ.get("CHAOS"))  # make chaos
CLOCK = frozenset({"seconds", "images_per_second", "mfu", "commit", "device", "date"})  # of when and where, not of what
Row = tuple[tuple[str, str], ...]


@dataclass
class Said:
    """How a verb ended: `status` is None where an exception reached the top."""

    status: int | None
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def is_a_line(self) -> bool:
        """Whether it is refused as it should: one line that is addressed to a person, behind a progress bar's."""
        lines = [line for line in self.err.splitlines() if line.startswith("harness: ")]
        return self.status == 1 and len(lines) == 1 and len(lines[0]) < 5000


def verb(*words: object) -> Said:
    """A verb of the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: int | None = cli.main([str(word) for word in words])
        except Exception:
            status = None
            traceback.print_exc(file=err)
    return Said(status, out.getvalue(), err.getvalue())


@dataclass
class Tally:
    """How many trials ended in which way, and the first few of those that fell."""

    name: str
    ends: Counter[str] = field(default_factory=Counter)
    fallen: list[str] = field(default_factory=list)

    def add(self, verdict: str, trial: object, said: list[Said]) -> None:
        self.ends[verdict] += 1
        if verdict not in FINE:
            texts = [line for one in said for line in one.text.strip().splitlines()[-1:]]
            self.fallen.append(f"{verdict}: {trial}: {' | '.join(texts)[:500]}")

    def settle(self) -> None:
        """Prints the count; fails where a trial fell."""
        print(f"{self.name}: {sum(self.ends.values())} tried: {dict(self.ends)}")
        kinds = {line.split(": ")[-1][:80]: line for line in reversed(self.fallen)}  # one of each
        shown = "\n".join(list(kinds.values())[:12])
        assert not self.fallen, f"{self.name}: {len(self.fallen)} fell, such as\n{shown}"


FINE = ("harmless", "named")


def has_traceback(said: list[Said], folder: Path) -> bool:
    """Whether one was printed, or written to a log below the folder."""
    if any(one.status is None or "Traceback (most recent" in one.text for one in said):
        return True
    logs = (path for path in folder.rglob("*") if path.suffix in (".log", ".err", ".out", ".txt") and path.is_file())
    return any(b"Traceback (most recent" in path.read_bytes() for path in logs)


def table(path: Path, free: frozenset[str] = CLOCK) -> list[Row]:
    """The rows of a CSV without the columns that are free to differ; [] where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [tuple((k, v) for k, v in row.items() if k not in free) for row in csv.DictReader(file)]


def pictures_of(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as file:
        return [file[name].tobytes() for name in sorted(file)]
