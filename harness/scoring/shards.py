"""Feature shards: where they lie, what each was made from, and which are still to be made."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import ModuleType

from harness import extractors
from harness.base import rng
from harness.base.errors import UserError
from harness.base.files import remove_leftovers
from harness.base.provenance import PACKAGES
from harness.base.tensors import load_tensors, read_metadata
from harness.models import autoencoder, dit
from harness.objectives import ddpm, flow, flow_samplers, guidance
from harness.scoring import features, sample
from harness.study.store import Store
from harness.study.tasks import Evaluate

SHARD = 512  # images whose features are kept together: what a kill can cost
# The code between a seed and its features.
CODE: tuple[ModuleType, ...] = (
    rng,
    dit,
    ddpm,
    flow,
    flow_samplers,
    guidance,
    autoencoder,
    sample,
    features,
)


def recipe() -> str:
    """The digest of that code and of the packages it calls."""
    digest = hashlib.sha256()
    files = [Path(str(module.__file__)) for module in CODE]
    for path in files + sorted(Path(extractors.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for package in PACKAGES:
        digest.update(f"{package} {metadata.version(package)}".encode())
    return digest.hexdigest()


RECIPE = recipe()  # at import: the code that runs, even where the files change under it


def shard_paths(task: Evaluate, store: Store) -> list[Path]:
    """Where the features of each SHARD images of an evaluation lie."""
    folder = store.shards(task.run, task.step, task.protocol)
    return [folder / f"{i:05d}.safetensors" for i in range(-(-task.protocol.images // SHARD))]


def to_do(paths: list[Path], origin: Mapping[str, str]) -> tuple[list[int], list[str]]:
    """The numbers of the shards to make, and a line for those that are there and cannot be used.

    A shard serves where it is undamaged and every entry of its origin is that of now.
    """
    reasons = {i: unusable(path, origin) for i, path in enumerate(paths) if path.exists()}
    again = Counter(reason for reason in reasons.values() if reason)
    lines = [f"{count} shards are made again: {reason}" for reason, count in again.items()]
    return [i for i in range(len(paths)) if reasons.get(i, "absent")], lines


def unusable(path: Path, origin: Mapping[str, str]) -> str:
    """Why a shard cannot be used, or ""."""
    try:
        written = read_metadata(path)
        if differ := [key for key in origin if written.get(key) != origin[key]]:
            return f"they come from other {', '.join(differ)}"
        load_tensors(path)
    except UserError:
        return "they are damaged"
    return ""


def remove_temporary(task: Evaluate, store: Store) -> None:
    """Removes what killed writers of this evaluation left; its lock must be held."""
    record = store.record(task.run, task.step, task.protocol)
    remove_leftovers(store.shards(task.run, task.step, task.protocol))
    remove_leftovers(record.parent, f".{record.stem}.*")  # those of other steps are not ours
