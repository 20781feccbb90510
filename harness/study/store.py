"""The store: the only module that builds a path. Files are the only state, and appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import read_json, read_lines, write_json
from harness.spec import Protocol, Run

STATES_KEPT = 2  # the newest, and one more should it turn out damaged
SCHEMA = 1  # of records; a reader refuses newer ones


def steps_in(folder: Path, suffix: str = "") -> list[int]:
    """The steps that name the entries of a folder, rising; 0050000 or 0050000.json."""
    with contextlib.suppress(FileNotFoundError):
        names = (name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))
        return sorted(int(name) for name in names if name.isdecimal())
    return []


@dataclass(frozen=True)
class Store:
    """Where everything about runs is kept; see the tree in the README."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))

    def run(self, run: Run) -> Path:
        return self.root / "runs" / run.id

    def run_ids(self) -> set[str]:
        with contextlib.suppress(FileNotFoundError):
            return set(os.listdir(self.root / "runs"))
        return set()

    def model(self, run: Run) -> Path:
        return self.run(run) / "model.json"

    def data(self, run: Run) -> Path:
        """Which images the run is trained on."""
        return self.run(run) / "data.json"

    def checkpoint(self, run: Run, step: int) -> Path:
        return self.run(run) / "checkpoints" / f"{step:07d}"

    def ema(self, run: Run, step: int) -> Path:
        """The weights that are scored; kept."""
        return self.checkpoint(run, step) / "ema.safetensors"

    def state(self, run: Run, step: int) -> Path:
        """All that resuming needs; only the newest two are kept."""
        return self.checkpoint(run, step) / "state.safetensors"

    def steps(self, run: Run) -> list[int]:
        """Every step with a checkpoint folder."""
        return steps_in(self.run(run) / "checkpoints")

    def stale_states(self, run: Run, step: int) -> list[Path]:
        """The states to delete after one at `step` was saved.

        Later ones, of a run whose lost checkpoint is being trained again, do not push out the one
        just saved.
        """
        there = [s for s in self.steps(run) if self.state(run, s).exists()]
        past, later = [s for s in there if s <= step], [s for s in there if s > step]
        return [self.state(run, s) for s in past[:-STATES_KEPT] + later[:-STATES_KEPT]]

    def evals(self, run: Run, protocol: Protocol) -> Path:
        return self.run(run) / "evals" / protocol.id

    def record(self, run: Run, step: int, protocol: Protocol) -> Path:
        return self.evals(run, protocol) / f"{step:07d}.json"

    def preview(self, run: Run, step: int, protocol: Protocol) -> Path:
        """The first images of an evaluation: the same noise and labels for every model."""
        return self.record(run, step, protocol).with_suffix(".npz")

    def shards(self, run: Run, step: int, protocol: Protocol) -> Path:
        """The folder of feature shards, there while an evaluation is in progress."""
        return self.record(run, step, protocol).with_suffix("")

    def scored(self, run: Run, protocol: Protocol) -> set[int]:
        return set(steps_in(self.evals(run, protocol), ".json"))

    def train_claim(self, run: Run) -> Path:
        return self.run(run) / "train.lock"

    def evaluate_claim(self, run: Run, step: int, protocol: Protocol) -> Path:
        return self.record(run, step, protocol).with_suffix(".lock")

    def logs(self, run: Run) -> list[Path]:
        return sorted(self.run(run).glob("log.[0-9]*.jsonl"))

    def next_log(self, run: Run) -> Path:
        """The log of a new attempt."""
        return self.run(run) / f"log.{len(self.logs(run)):03d}.jsonl"

    def ledger(self) -> Path:
        return self.root / "jobs.jsonl"

    def submissions(self) -> Path:
        return self.root / "jobs"

    def code(self, name: str) -> Path:
        """A copy of the code, for queued jobs."""
        return self.submissions() / "code" / name

    def references(self) -> Path:
        return self.root / "references"

    def speed(self, device: str) -> Path:
        """What was measured of a device, by its name."""
        return self.root / "speed" / f"{re.sub('[^a-z0-9]+', '-', device.lower()).strip('-')}.json"

    def speeds(self) -> list[Path]:
        return sorted((self.root / "speed").glob("[!.]*.json"))

    def registered(self, run: Run) -> bool:
        """Whether run.json is there.

        Raises:
            ValueError: it is that of another Run.
        """
        path, fields = self.run(run) / "run.json", run.canonical()
        if not path.exists():
            return False
        if (found := read_json(path)) != fields:
            differ = ", ".join(
                sorted(k for k in found.keys() | fields.keys() if found.get(k) != fields.get(k))
            )
            raise UserError(
                f"{path} is another run than {run.id} (they differ in {differ}): move that folder away"
            )
        return True

    def register(self, run: Run) -> None:
        """Writes run.json once."""
        if not self.registered(run):
            write_json(self.run(run) / "run.json", run.canonical())

    def read_attempts(self, run: Run) -> tuple[list[list[dict[str, Any]]], list[str]]:
        """The lines of every attempt's log, and what was skipped."""
        read = [read_lines(path) for path in self.logs(run)]
        return [lines for lines, _ in read], [line for _, torn in read for line in torn]

    def read_log(self, run: Run) -> tuple[list[dict[str, Any]], list[str]]:
        """One line a step over all attempts, the latest attempt's where two overlap; and what was skipped."""
        attempts, said = self.read_attempts(run)
        return merged(attempts), said


def merged(attempts: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One line a step, the latest attempt's where two overlap."""
    by_step = {line["step"]: line for lines in attempts for line in lines if "loss" in line}
    return [by_step[step] for step in sorted(by_step)]
