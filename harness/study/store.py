"""The store: where everything about runs lies. Files are the only state."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import is_intact, read_json, read_lines
from harness.spec import AnyProtocol, Protocol, Run, Validation
from harness.study.logs import is_log_line, merged

SHARD = 512  # images whose features are kept together: what a kill can cost
STATES_KEPT = 2  # the newest, and one more should it turn out damaged
SCHEMA = 1  # of records; a reader refuses newer ones


def steps_in(folder: Path, suffix: str = "") -> list[int]:
    """The steps that name the entries of a folder, rising; 0050000 or 0050000.json."""
    with contextlib.suppress(FileNotFoundError):
        names = (name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))
        return sorted(int(name) for name in names if name.isdecimal())
    return []


def shard_spans(images: int) -> list[range]:
    """The images of each shard."""
    return [range(low, min(images, low + SHARD)) for low in range(0, images, SHARD)]


def shard_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.safetensors"


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

    def run_json(self, name: str) -> Path:
        """The fields of the run of this id; see study.registry."""
        return self.root / "runs" / name / "run.json"

    def model(self, run: Run) -> Path:
        return self.run(run) / "model.json"

    def data(self, run: Run) -> Path:
        """Which images the run is trained on."""
        return self.run(run) / "data.json"

    def checkpoint(self, run: Run, step: int) -> Path:
        return self.run(run) / "checkpoints" / f"{step:07d}"

    def ema(self, run: Run, step: int) -> Path:
        """The averaged weights of a scored step; kept."""
        return self.checkpoint(run, step) / "ema.safetensors"

    def raw(self, run: Run, step: int) -> Path:
        """The weights as trained of a scored step, where a protocol scores them; kept."""
        return self.checkpoint(run, step) / "raw.safetensors"

    def weights(self, run: Run, step: int, kind: str) -> Path:
        """The file that a protocol with these `weights` scores, or of an average that is tracked.

        Without raw.safetensors it is the state, which has the raw weights too, as `net.*`. An
        average that is rebuilt has no file.
        """
        if kind != "raw":
            return self.checkpoint(run, step) / f"{run.file_of(kind) or kind}.safetensors"
        raw = self.raw(run, step)
        return raw if raw.exists() else self.state(run, step)

    def state(self, run: Run, step: int) -> Path:
        """All that resuming needs; only the newest two are kept."""
        return self.checkpoint(run, step) / "state.safetensors"

    def imported(self, run: Run, step: int) -> Path:
        """Where the weights of a step come from that `harness import` put here; else absent."""
        return self.checkpoint(run, step) / "import.json"

    def imported_steps(self, run: Run) -> list[int]:
        return [step for step in self.steps(run) if self.imported(run, step).exists()]

    def steps(self, run: Run) -> list[int]:
        """Every step with a checkpoint folder."""
        return steps_in(self.run(run) / "checkpoints")

    def stale_states(self, run: Run, step: int, fork: int | None = None) -> list[Path]:
        """The states to delete after one at `step` was saved; that at `fork` stays.

        Later ones, of a run whose lost checkpoint is being trained again, do not push out the one
        just saved.
        """
        there = [s for s in self.steps(run) if s != fork and self.state(run, s).exists()]
        past, later = [s for s in there if s <= step], [s for s in there if s > step]
        return [self.state(run, s) for s in past[:-STATES_KEPT] + later[:-STATES_KEPT]]

    def evals(self, run: Run, protocol: AnyProtocol) -> Path:
        return self.run(run) / "evals" / protocol.id

    def record(self, run: Run, step: int, protocol: AnyProtocol) -> Path:
        return self.evals(run, protocol) / f"{step:07d}.json"

    def preview(self, run: Run, step: int, protocol: AnyProtocol) -> Path:
        """The first images of an evaluation: the same noise and labels for every model."""
        return self.record(run, step, protocol).with_suffix(".npz")

    def samples(self, run: Run, step: int, protocol: Protocol) -> Path:
        """What is kept of images: of all protocols that sample alike."""
        return self.run(run) / "samples" / protocol.sampled / f"{step:07d}"

    def latents(self, run: Run, step: int, protocol: Protocol) -> Path:
        """The folder of shards of latents."""
        return self.samples(run, step, protocol) / "latents"

    def shards(self, run: Run, step: int, protocol: Protocol) -> Path:
        """The folder of shards of features, through one decoder and one extractor."""
        return self.samples(run, step, protocol) / f"{protocol.decoder}.{protocol.features}"

    def lacking(self, run: Run, step: int, protocol: AnyProtocol) -> list[str]:
        """Values that a protocol names and its record, which is there, does not hold."""
        if isinstance(protocol, Validation) or not protocol.metrics:
            return []
        values = read_json(self.record(run, step, protocol)).get("values", {})
        return [name for name in protocol.metrics if name not in values]

    def recorded(self, run: Run, protocol: AnyProtocol) -> dict[int, bool]:
        """The steps that have a record, and whether it is as it was written."""
        folder = self.evals(run, protocol)
        steps = steps_in(folder, ".json")
        return {step: is_intact(folder / f"{step:07d}.json") for step in steps}

    def read_records(self, run: Run, protocol: AnyProtocol) -> Iterator[dict[str, Any]]:
        """Every record that can be read; collect names the others."""
        folder = self.evals(run, protocol)
        for step in steps_in(folder, ".json"):
            with contextlib.suppress(UserError, OSError):
                yield read_json(folder / f"{step:07d}.json")

    def records(self) -> Iterator[Path]:
        """Every record of the store."""
        return self.root.glob("runs/*/evals/*/[0-9]*.json")

    def train_claim(self, run: Run) -> Path:
        return self.run(run) / "train.lock"

    def evaluate_claim(self, run: Run, step: int, protocol: AnyProtocol) -> Path:
        """One lock for all protocols that sample alike: nothing is sampled twice at a time."""
        if isinstance(protocol, Validation):
            return self.record(run, step, protocol).with_suffix(".lock")
        return self.samples(run, step, protocol).with_suffix(".lock")

    def logs(self, run: Run) -> list[Path]:
        """The logs of all attempts, the first one first."""
        paths = self.run(run).glob("log.[0-9]*.jsonl")
        return sorted((path for path in paths if log_number(path) >= 0), key=log_number)

    def next_log(self, run: Run) -> Path:
        """The log of a new attempt: a file that is not there."""
        number = max(map(log_number, self.logs(run)), default=-1) + 1
        return self.run(run) / f"log.{number:03d}.jsonl"

    def ledger(self) -> Path:
        return self.root / "jobs.jsonl"

    def failures(self) -> Path:
        """Why tasks failed in `harness run`."""
        return self.root / "failures.jsonl"

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

    def read_attempts(self, run: Run) -> tuple[list[list[dict[str, Any]]], list[str]]:
        """The lines of every attempt's log. Returns (attempts, warnings)."""
        attempts, warnings = [], []
        for path in self.logs(run):
            lines, damaged = read_lines(path)
            attempts.append([line for line in lines if is_log_line(line)])
            warnings += damaged
            if strange := len(lines) - len(attempts[-1]):
                warnings.append(f"{path}: {strange} lines that are no log of a training skipped")
        return attempts, warnings

    def read_log(self, run: Run) -> tuple[list[dict[str, Any]], list[str]]:
        """One line a step over all attempts, the latest one's. Returns (lines, warnings)."""
        attempts, warnings = self.read_attempts(run)
        return merged(attempts), warnings


def log_number(path: Path) -> int:
    """log.012.jsonl → 12; -1 of another file."""
    number = path.name.split(".")[1]
    return int(number) if number.isdecimal() else -1
