"""`harness export`: a checkpoint of a store as a file, or as a folder that diffusers loads."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write, sha256
from harness.base.tensors import load_tensors, save_tensors
from harness.exchange.identify import differences, layout, layout_of
from harness.spec import Run
from harness.study.store import Store


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one step of a run, loaded and compared with its network."""

    run: Run
    step: int
    weights: str  # "ema" or "raw"
    tensors: dict[str, Tensor]
    digest: str  # SHA-256 of its file, as records have it

    @property
    def metadata(self) -> dict[str, str]:
        """What `harness import` reads back."""
        return {
            "run": json.dumps(self.run.canonical(), sort_keys=True),
            "step": str(self.step),
            "weights": self.weights,
            "checkpoint": self.digest,
        }


def checkpoint(store: Store, run: Run, step: int | None, weights: str) -> Checkpoint:
    """Loads weights "ema" or "raw" of a step, or of the last that has them.

    Raises:
        UserError: there are none, or they are of another network.
    """
    there = [s for s in store.steps(run) if store.weights(run, s, weights).exists()]
    if not there or (step is not None and step not in there):
        have = ", ".join(map(str, there)) or "none"
        raise UserError(f"{run.id} has no {weights} weights at step {step}; steps that do: {have}")
    at = there[-1] if step is None else step
    path = store.weights(run, at, weights)
    prefix = "net." if path == store.state(run, at) else ""
    loaded = load_tensors(path, prefix=prefix)
    tensors = {name.removeprefix(prefix): x for name, x in loaded.items()}
    if (found := layout(tensors)) != (wanted := layout_of(run)):
        raise UserError(f"{path} is of another network than {run.id}: {differences(found, wanted)}")
    return Checkpoint(run, at, weights, tensors, sha256(path))


def write_safetensors(path: Path, given: Checkpoint) -> None:
    """The tensors under their names, with the run's fields in the header."""
    save_tensors(path, given.tensors, given.metadata)


def write_pt(path: Path, given: Checkpoint) -> None:
    """A flat state dict by torch.save, as the released checkpoints are."""
    with atomic_write(path) as beside, beside.open("wb") as file:
        torch.save(given.tensors, file)


# Formats that are one file, with what is added to a name.
FILES: dict[str, Callable[[Path, Checkpoint], None]] = {
    "safetensors": write_safetensors,
    "pt": write_pt,
}


def refuse_existing(path: Path) -> None:
    """Refuses a path that exists.

    Raises:
        UserError: something lies at `path`.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} is already there: move it away, or name another --out")


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to fill beside `path`, which takes its place at the end or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield beside
        beside.chmod(0o777 & ~current_umask())
        os.replace(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def current_umask() -> int:
    """The permissions that new files lack; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def scores(store: Store, given: Checkpoint) -> list[dict[str, Any]]:
    """The records of these very weights, by protocol."""
    from harness.base.files import read_json

    found = []
    for path in sorted(store.run(given.run).glob(f"evals/*/{given.step:07d}.json")):
        record = read_json(path)
        if record.get("checkpoint") == given.digest:
            found.append(record)
    return found
