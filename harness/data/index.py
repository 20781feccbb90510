"""A folder of latents: the paths of its files, and index.json, which describes them. No torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.validation import Mistakes
from harness.data.rows import DATASETS

SCHEMA = 1
SHARD = 10_000  # images of a shard: ImageNet makes 129 of 328 MB at 256 pixels
PIXELS = "none"  # the VAE of data that are pixels
CROP = "adm"  # halved by a box filter, then bicubic to the short side, then the middle


@dataclass(frozen=True, kw_only=True)
class Index:
    """What index.json says.

    Row i is image i of the source: row i % shard of file i // shard. Of latents it is [mirrored,
    moment, C, h, w] in fp16: as it is and mirrored, mean and standard deviation of the posterior,
    not scaled; of pixels [1, C, H, W] in uint8. A row of `unreadable` is NaN or 0. labels.npy holds
    a class for each row.
    """

    schema: int
    data: str
    rows: int
    shard: int
    shape: list[int]
    dtype: str
    # name; encoder, the family of decoders it belongs to; digest, of the encoder's weights
    vae: dict[str, str]
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
        """A warning where images of the dataset are missing, else ""."""
        return incomplete(self.data, self.count)


def incomplete(name: str, images: int) -> str:
    """A warning where a dataset has fewer images than it should, else ""."""
    whole = DATASETS[name].images
    if whole is None or images == whole:
        return ""
    return f"{images:,} of {name}'s {whole:,} images: results on them are not {name}'s"


def index_path(folder: Path) -> Path:
    return folder / "index.json"


def labels_path(folder: Path) -> Path:
    return folder / "labels.npy"


def shard_path(folder: Path, shard: int) -> Path:
    return folder / "shards" / f"{shard:05d}.npy"


def checksums_path(folder: Path, shard: int) -> Path:
    """Beside a shard: the CRC-32 of each row and side, uint32 [rows, mirrored]."""
    return shard_path(folder, shard).with_suffix(".crc.npy")


def note_path(folder: Path, shard: int) -> Path:
    """Beside a whole shard: its digest, what was unreadable, and how it was made."""
    return shard_path(folder, shard).with_suffix(".json")


def shards_in(folder: Path) -> Iterator[Path]:
    """The notes of those that are there."""
    return (folder / "shards").glob("[0-9]*.json")


def claim_path(folder: Path) -> Path:
    return folder / "encode.lock"


def shape(name: str) -> list[int]:
    """Of one row: of latents [mirrored, moment, C, h, w], of pixels [1, C, H, W]."""
    data = DATASETS[name]
    return [*([2, 2] if data.latent else [1]), *data.shape]


def dtype(name: str) -> str:
    """Of the numbers of a row."""
    return "float16" if DATASETS[name].latent else "uint8"


def read_index(folder: Path) -> Index:
    """Reads index.json of a folder of latents.

    Raises:
        UserError: no such file, one of a newer version, or one that is no index.
    """
    path = index_path(folder)
    try:
        fields = read_json(path)
    except FileNotFoundError:
        raise UserError(
            f"{folder} holds no index.json: run harness encode, again until it has ended"
        ) from None
    schema = fields.get("schema", SCHEMA)
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(
            f"{path} has schema {schema}, this version reads {SCHEMA}: take a newer version"
        )
    if problems := wrong_fields(fields):
        raise Mistakes(f"{path} is no index: delete it and run harness encode again", problems)
    return Index(**fields)


KINDS = {field.name: str(field.type) for field in dataclasses.fields(Index)}
FILE = {"file": str, "bytes": int, "sha256": str}
UNREADABLE = {"row": int, "name": str, "fault": str}
VAE = {"name": str, "encoder": str, "digest": str}


def wrong_fields(fields: Mapping[str, Any]) -> list[str]:
    """What keeps JSON from being an Index, types and contents, in words."""
    if differ := sorted(fields.keys() ^ KINDS.keys()):
        return [f"the fields {', '.join(differ)}"]
    wrong = [
        name for name, kind in KINDS.items() if type(fields[name]).__name__ != kind.split("[")[0]
    ]
    if wrong:
        return [f"{name} must be {KINDS[name]}" for name in wrong]
    index = Index(**fields)
    return [text for text, holds in requirements(index).items() if not holds]


def requirements(index: Index) -> dict[str, bool]:
    """What every index fulfils whose fields have the right types."""
    files = [shard_path(Path(), i) for i in range(len(index.shards))]
    entries = all(of_kind(entry, UNREADABLE) for entry in index.unreadable)
    rows = [entry["row"] for entry in index.unreadable] if entries else []
    return {
        f"data must be one of {', '.join(DATASETS)}": index.data in DATASETS,
        "rows and shard must be at least 1": min(index.rows, index.shard) > 0,
        "scale must be finite and above 0": 0 < index.scale < math.inf,
        "vae must hold name, encoder and digest": of_kind(index.vae, VAE),
        "classes must be names": all(isinstance(name, str) for name in index.classes),
        "shards must hold file, bytes and sha256 of each shard": [
            entry["file"] for entry in index.shards if of_kind(entry, FILE)
        ]
        == [str(file) for file in files],
        "labels must hold file, bytes and sha256 of labels.npy": of_kind(index.labels, FILE)
        and index.labels["file"] == str(labels_path(Path())),
        "unreadable must hold row, name and fault of each image": entries,
        "rows of unreadable must ascend below the number of rows": rows == sorted(set(rows))
        and all(0 <= row < index.rows for row in rows),
    }


def of_kind(value: object, kinds: Mapping[str, type]) -> bool:
    """Whether a JSON object holds at least these keys with exactly these types."""
    return isinstance(value, dict) and all(type(value.get(k)) is kind for k, kind in kinds.items())
