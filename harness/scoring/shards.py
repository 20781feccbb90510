"""Shards of features and latents: what each was made from, and which are still to be made."""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType

from harness import extractors, models
from harness.base import rng
from harness.base.errors import UserError
from harness.base.files import remove_leftovers
from harness.base.provenance import PACKAGES
from harness.base.tensors import load_tensors, read_metadata
from harness.objectives import ddpm, flow, flow_samplers, guidance, guidance_schedules
from harness.scoring import features, sample
from harness.spec import Run
from harness.spec.own_rows import digests
from harness.study.store import Store, shard_path, shard_spans
from harness.study.tasks import Evaluate

# The code between a seed and its features.
CODE: tuple[ModuleType, ...] = (
    rng,
    ddpm,
    flow,
    flow_samplers,
    guidance,
    guidance_schedules,
    sample,
    features,
)


def recipe() -> str:
    """The digest of that code and of the packages it calls."""
    digest = hashlib.sha256()
    files = [Path(str(module.__file__)) for module in CODE]
    for package in (extractors, models):  # any of whose networks may have been at work
        files += sorted(Path(str(package.__file__)).parent.glob("*.py"))
    for path in files:
        digest.update(path.read_bytes())
    for name in PACKAGES:
        digest.update(f"{name} {metadata.version(name)}".encode())
    return digest.hexdigest()


RECIPE = recipe()  # at import: the code that runs, even where the files change under it


def code_of(run: Run) -> str:
    """That digest, and those of the files of rows that the run names."""
    return " ".join([RECIPE, *digests(run).values()])


def shard_paths(folder: Path, images: int) -> list[Path]:
    """Where each SHARD of so many images lies."""
    return [shard_path(folder, i) for i, _ in enumerate(shard_spans(images))]


def to_do(
    paths: Sequence[Path], images: int, origin: Mapping[str, str], tensor: str
) -> tuple[list[int], list[str]]:
    """The numbers of the shards to make, and a line for those that are there and cannot be used.

    A shard serves where it is undamaged, has rows of `tensor` for all its images, and every entry
    of its origin is that of now. Where all shards are there they may be of older code, if of one:
    they are then what a score was computed from, and nothing is added to them.
    """
    spans = shard_spans(images)
    reasons = {
        i: unusable(path, origin, tensor, len(spans[i]))
        for i, path in enumerate(paths)
        if path.exists()
    }
    codes = {i: read_metadata(paths[i]).get("code") for i, why in reasons.items() if not why}
    if len(codes) == len(paths) and len(set(codes.values())) == 1:
        return [], []
    reasons |= {i: "they come from other code" for i in codes if codes[i] != origin["code"]}
    again = Counter(reason for reason in reasons.values() if reason)
    lines = [f"{count} shards are made again: {reason}" for reason, count in again.items()]
    return [i for i in range(len(paths)) if reasons.get(i, "absent")], lines


def unusable(path: Path, origin: Mapping[str, str], tensor: str, rows: int) -> str:
    """Why a shard cannot be used, or ""."""
    try:
        written = read_metadata(path)
        differ = [key for key in origin if key != "code" and written.get(key) != origin[key]]
        if differ:
            return f"they come from other {', '.join(differ)}"
        held = len(load_tensors(path).get(tensor, ()))
    except UserError:
        return "they are damaged"
    return "" if held >= rows else "they hold fewer images"


def kept_checkpoint(folders: Iterable[Path]) -> str:
    """The digest of the weights that kept shards were made from; "" where none is readable."""
    for path in (shard_path(folder, 0) for folder in folders):
        with contextlib.suppress(UserError, OSError):
            return read_metadata(path).get("weights", "")
    return ""


def remove_temporary(task: Evaluate, store: Store) -> None:
    """Removes what killed writers of this evaluation left; its lock must be held."""
    cell = (task.run, task.step, task.sampling)
    record = store.record(*cell)
    remove_leftovers(store.shards(*cell))
    remove_leftovers(store.latents(*cell))
    remove_leftovers(record.parent, f".{record.stem}.*")  # those of other steps are not ours
