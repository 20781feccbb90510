"""A folder of latents as its files tell it: where they lie, what index.json says, and what is wrong. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import read_json, sha256
from harness.base.validation import refuse
from harness.data.rows import DATASETS

SCHEMA = 1
SHARD = 10_000  # images of a shard: ImageNet makes 129 of 328 MB at 256 pixels
CROP = "adm"  # halved by a box filter, then bicubic to the short side, then the middle


@dataclass(frozen=True, kw_only=True)
class Index:
    """What index.json says.

    Row i of the latents is image i of the source: row i % shard of file i // shard, [mirrored,
    moment, C, h, w] in fp16: as it is and mirrored, mean and standard deviation of the posterior,
    not scaled. A row of `unreadable` is NaN. labels.npy holds a class for each row.
    """

    schema: int
    data: str
    rows: int
    shard: int
    shape: list[int]
    dtype: str
    vae: dict[
        str, str
    ]  # name; encoder, the family of decoders it belongs to; digest, of the encoder's weights
    scale: float
    crop: str
    pixels: int
    classes: list[str]
    source: str
    listing: str  # digest of the source's names and labels
    shards: list[dict[str, Any]]  # file, bytes, sha256
    labels: dict[str, Any]
    unreadable: list[dict[str, Any]]  # row, name, fault
    made: dict[str, Any]

    @property
    def count(self) -> int:
        """Images that can be trained on."""
        return self.rows - len(self.unreadable)

    @property
    def notice(self) -> str:
        """What is to be said of images that are not all of the dataset's."""
        return incomplete(self.data, self.count)


def incomplete(name: str, images: int) -> str:
    """ "" for the whole dataset."""
    whole = DATASETS[name].images
    return (
        ""
        if images == whole
        else f"{images:,} of {name}'s {whole:,} images: results on them are not {name}'s"
    )


def index_path(folder: Path) -> Path:
    return folder / "index.json"


def labels_path(folder: Path) -> Path:
    return folder / "labels.npy"


def shard_path(folder: Path, shard: int) -> Path:
    return folder / "shards" / f"{shard:05d}.npy"


def note_path(folder: Path, shard: int) -> Path:
    """Beside a whole shard: its digest, what was unreadable, and how it was made."""
    return shard_path(folder, shard).with_suffix(".json")


def shards_in(folder: Path) -> Iterator[Path]:
    """The notes of those that are there."""
    return (folder / "shards").glob("[0-9]*.json")


def claim_path(folder: Path) -> Path:
    return folder / "encode.lock"


def shape(name: str) -> list[int]:
    """Of one row of the dataset's latents."""
    data = DATASETS[name]
    return [2, 2, data.channels, data.size, data.size]


def read_index(folder: Path) -> Index:
    """
    Raises:
        ValueError: no such file, or one that is no index.
    """
    path = index_path(folder)
    try:
        found = read_json(path)
    except OSError:
        raise UserError(
            f"{folder} holds no index.json: run harness encode, again until it has ended"
        ) from None
    if found.get("schema", SCHEMA) > SCHEMA:
        raise UserError(
            f"{path} has schema {found['schema']}, this version reads {SCHEMA}: take a newer version"
        )
    names = {field.name for field in dataclasses.fields(Index)}
    if found.keys() != names:
        raise UserError(
            f"{path} is no index ({', '.join(sorted(found.keys() ^ names))}): run harness encode again"
        )
    return Index(**found)


def checked(name: str, folder: Path | None) -> tuple[Path, Index]:
    """The folder of the dataset `name` and its index, checked without reading the latents.

    Raises:
        ValueError: everything that keeps them from being that dataset, at once.
    """
    if folder is None:
        raise UserError(
            f"{name} has no path: harness encode IMAGES --out DIR --data {name}, then paths.{name} = DIR"
            " in the cluster file"
        )
    index, data = read_index(folder), DATASETS[name]
    if index.data != name:
        raise UserError(
            f"{folder} holds {index.data}, not {name}: mend paths.{name} in the cluster file"
        )
    wanted = {
        "shape": shape(name),
        "dtype": "float16",
        "crop": CROP,
        "pixels": data.pixels,
        "shards": -(-index.rows // index.shard),
    }
    told = {
        key: len(x) if isinstance(x := getattr(index, key), list) and key != "shape" else x
        for key in wanted
    }
    found = [
        f"{key} is {told[key]}, must be {wanted[key]}: encode it anew"
        for key in wanted
        if told[key] != wanted[key]
    ]
    if len(index.classes) > data.classes:
        found.append(
            f"it has {len(index.classes)} classes, {name} has {data.classes}: encode it anew"
        )
    refuse(f"dataset {name} in {folder}", found + wrong_sizes(folder, index))
    return folder, index


def is_complete(folder: Path, name: str, vae: str, shard: int) -> bool:
    """Whether the latents that are asked for are there, every file as long as it was written.

    Raises:
        ValueError: others lie there.
    """
    if not index_path(folder).exists():
        return False
    index = read_index(folder)
    found, asked = (index.data, index.vae["name"], index.shard), (name, vae, shard)
    if found != asked:
        raise UserError(
            f"{folder} holds (data, VAE, shard) = {found}, not {asked}: choose another --out"
        )
    return not wrong_sizes(folder, index)


def wrong_sizes(folder: Path, index: Index) -> list[str]:
    said = []
    for part in (*index.shards, index.labels):
        path = folder / part["file"]
        size = path.stat().st_size if path.exists() else None
        if size != part["bytes"]:
            is_now = "is not there" if size is None else f"has {size} bytes, not {part['bytes']}"
            said.append(f"{path} {is_now}: {remedy(folder, index)}")
    return said


def remedy(folder: Path, index: Index) -> str:
    more = f" --vae {index.vae['name']}" * (
        index.vae["name"] != "ft-mse"
    ) + f" --shard {index.shard}" * (index.shard != SHARD)
    return f"harness encode {index.source} --out {folder} --data {index.data}{more} makes it anew, and nothing else"


def refuse_unreadable(folder: Path) -> None:
    """
    Raises:
        ValueError: images were left out, with the first of them; index.json lists all.
    """
    index = read_index(folder)
    if bad := index.unreadable:
        lines = [
            f"{x['name']} (in {shard_path(folder, x['row'] // index.shard).name}): {x['fault']}"
            for x in bad[:5]
        ]
        raise UserError(
            f"{len(bad)} images were unreadable and are left out, {index_path(folder)} lists all: {'; '.join(lines)}:"
            " mend them, delete those shards and encode again, or train without them"
        )


def damaged(folder: Path, index: Index, progress: Callable[[int], object]) -> Iterator[str]:
    """Every file whose bytes are not those that were written, with the remedy; `tell` hears of bytes read."""
    for part in (*index.shards, index.labels):
        path = folder / part["file"]
        if (
            path.exists()
            and path.stat().st_size == part["bytes"]
            and sha256(path, progress) != part["sha256"]
        ):
            yield f"{path} is damaged, its SHA-256 is not the index's: delete it, and {remedy(folder, index)}"
