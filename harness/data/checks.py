"""Checks of a folder of latents: its dataset, its files, their bytes; with remedies. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from harness.base.errors import UserError
from harness.base.files import sha256
from harness.base.validation import refuse
from harness.data.index import (
    CROP,
    PIXELS,
    SHARD,
    Index,
    dtype,
    index_path,
    read_index,
    shape,
    shard_path,
)
from harness.data.rows import DATASETS


def checked_folder(name: str, folder: Path | None) -> tuple[Path, Index]:
    """The folder of the dataset `name` and its index, checked without reading the latents.

    Raises:
        UserError: everything that keeps them from being that dataset, at once.
    """
    if folder is None:
        raise UserError(
            f"{name} has no path: harness encode IMAGES --out DIR --data {name}, then"
            f" paths.{name} = DIR in the cluster file"
        )
    index, data = read_index(folder), DATASETS[name]
    if index.data != name:
        raise UserError(
            f"{folder} holds {index.data}, not {name}: fix paths.{name} in the cluster file"
        )
    wanted = {
        "shape": shape(name),
        "dtype": dtype(name),
        "crop": CROP,
        "pixels": data.pixels,
        "shards": -(-index.rows // index.shard),
    }
    stored = {
        key: len(x) if isinstance(x := getattr(index, key), list) and key != "shape" else x
        for key in wanted
    }
    problems = [
        f"{key} is {stored[key]}, must be {wanted[key]}: encode it again"
        for key in wanted
        if stored[key] != wanted[key]
    ]
    if 0 < data.classes < len(index.classes):
        problems.append(
            f"it has {len(index.classes)} classes, {name} has {data.classes}: encode it again"
        )
    refuse(f"dataset {name} in {folder}", problems + wrong_sizes(folder, index))
    return folder, index


def is_complete(folder: Path, name: str, vae: str, shard: int) -> bool:
    """Whether the latents that are asked for are there, every file as long as it was written.

    Raises:
        UserError: others lie there.
    """
    if not index_path(folder).exists():
        return False
    index = read_index(folder)
    stored, asked = (index.data, index.vae["name"], index.shard), (name, vae, shard)
    if stored != asked:
        raise UserError(
            f"{folder} holds (data, VAE, shard) = {stored}, not {asked}: choose another --out"
        )
    return not wrong_sizes(folder, index)


def wrong_sizes(folder: Path, index: Index) -> list[str]:
    """Files that are absent or have another size than the index says, each with its remedy."""
    problems = []
    for entry in (*index.shards, index.labels):
        path = folder / entry["file"]
        size = path.stat().st_size if path.exists() else None
        if size != entry["bytes"]:
            is_now = "is not there" if size is None else f"has {size} bytes, not {entry['bytes']}"
            problems.append(f"{path} {is_now}: {how_to_remake(folder, index)}")
    return problems


def how_to_remake(folder: Path, index: Index) -> str:
    """The command that makes a file of the folder again, as the end of a message."""
    command = f"harness encode {index.source} --out {folder} --data {index.data}"
    if index.vae["name"] not in ("ft-mse", PIXELS):
        command += f" --vae {index.vae['name']}"
    if index.shard != SHARD:
        command += f" --shard {index.shard}"
    return f"{command} makes it again, and nothing else"


def refuse_unreadable(folder: Path) -> None:
    """Refuses a folder from which unreadable images were left out.

    Raises:
        UserError: images were left out, with the first of them; index.json lists all.
    """
    index = read_index(folder)
    if bad := index.unreadable:
        first = "; ".join(
            f"{x['name']} (in {shard_path(folder, x['row'] // index.shard).name}): {x['fault']}"
            for x in bad[:5]
        )
        raise UserError(
            f"{len(bad)} images were unreadable and are left out, {index_path(folder)} lists all:"
            f" {first}: fix them, delete those shards and encode again, or train without them"
        )


def damaged_files(folder: Path, index: Index, progress: Callable[[int], object]) -> Iterator[str]:
    """Every file whose bytes are not those that were written, with the remedy.

    `progress` is given the number of bytes of each block read.
    """
    for entry in (*index.shards, index.labels):
        path = folder / entry["file"]
        whole = path.exists() and path.stat().st_size == entry["bytes"]
        if whole and sha256(path, progress) != entry["sha256"]:
            yield (
                f"{path} is damaged, its SHA-256 is not the index's: delete it, and"
                f" {how_to_remake(folder, index)}"
            )
