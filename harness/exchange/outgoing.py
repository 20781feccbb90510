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
from harness.base.files import atomic_write
from harness.base.tensors import save_tensors
from harness.exchange.layouts import differences, layout, layout_of
from harness.scoring.averages import rebuilt_warnings
from harness.scoring.sample import read_weights
from harness.spec import Run
from harness.study.store import Store


@dataclass(frozen=True)
class Checkpoint:
    """The weights of one step of a run, loaded and compared with its network.

    weights: as a protocol names them; digest: as records have it, the SHA-256 of the file; rebuilt:
    of an average that no file has, from what, and how far it is off.
    """

    run: Run
    step: int
    weights: str
    tensors: dict[str, Tensor]
    digest: str
    rebuilt: str = ""

    @property
    def metadata(self) -> dict[str, str]:
        """What `harness import` reads back."""
        return {
            "run": json.dumps(self.run.canonical(), sort_keys=True),
            "step": str(self.step),
            "weights": self.weights,
            "checkpoint": self.digest,
            **({"rebuilt": self.rebuilt} if self.rebuilt else {}),
        }


def checkpoint(store: Store, run: Run, step: int | None, weights: str) -> Checkpoint:
    """Loads a protocol's `weights` of a step, or of the last that has them; some are rebuilt.

    Raises:
        UserError: there are none, or they are of another network.
    """
    at = step_of(store, run, step, weights)
    tensors, digest = read_weights(store, run, at, weights, torch.device("cpu"))
    if (found := layout(tensors)) != (wanted := layout_of(run)):
        path = store.checkpoint(run, at)
        raise UserError(f"{path} is of another network than {run.id}: {differences(found, wanted)}")
    notes = rebuilt_warnings(store, run, at, weights)
    return Checkpoint(run, at, weights, tensors, digest, "; ".join(notes))


def step_of(store: Store, run: Run, step: int | None, weights: str) -> int:
    """The step that is asked for, or the last that has these weights or what they are made from.

    Raises:
        UserError: there is none.
    """
    if run.ema is None and run.file_of(weights) is None:
        raise UserError(
            f"{run.id} tracks no power average to rebuild {weights} from: take ema or raw"
        )
    kinds = run.made_from(weights)
    there = [s for s in store.steps(run) if all(store.weights(run, s, k).exists() for k in kinds)]
    if not there or (step is not None and step not in there):
        have = ", ".join(map(str, there)) or "none"
        raise UserError(f"{run.id} has no {weights} weights at step {step}; steps that do: {have}")
    return there[-1] if step is None else step


def write_safetensors(path: Path, given: Checkpoint) -> None:
    """The tensors under their names, with the run's fields in the header."""
    save_tensors(path, given.tensors, given.metadata)


def write_pt(path: Path, given: Checkpoint) -> None:
    """A flat state dict by torch.save, as the released checkpoints are.

    Raises:
        OSError: the file could not be written, which torch turns into an error of its own.
    """
    with atomic_write(path) as beside, beside.open("wb") as file:
        try:
            torch.save(given.tensors, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


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
