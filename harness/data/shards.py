"""Shards on disk: memory-mapped rows, of which a batch reads its own alone, each checked."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from harness.base.errors import UserError
from harness.base.files import sha256
from harness.base.validation import refuse
from harness.data.checks import how_to_remake
from harness.data.index import Index, checksums_path, labels_path, shard_path
from harness.data.rows import DATASETS

Array = np.ndarray[Any, Any]


class Shard:
    """A file of rows [sides, ...] in the kernel's page cache, not in this process's memory.

    `checksums` has a CRC-32 for each row and side; older latents have none.

    Raises:
        UserError: it is no .npy file of these rows.
    """

    def __init__(self, path: Path, checksums: Path, shape: tuple[int, ...], dtype: str) -> None:
        self.path = path
        self.checksums = open_checksums(checksums, shape[:2])
        with path.open("rb") as file:
            self.start = skip_header(file, shape, dtype)
            self.pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.rows = np.frombuffer(self.pages, dtype, offset=self.start).reshape(shape)

    def fetch(self, row: int, side: int) -> None:
        """Has the kernel read ahead: page faults would wait for one sample after the other."""
        first = self.start + row * self.rows.strides[0] + side * self.rows.strides[1]
        page = first - first % mmap.PAGESIZE
        self.pages.madvise(mmap.MADV_WILLNEED, page, first + self.rows.strides[1] - page)

    def check(self, row: int, side: int, numbers: Array) -> None:
        """Checks the numbers of one row and side against their CRC-32.

        Raises:
            UserError: these are not the numbers that were written.
        """
        if self.checksums is not None and zlib.crc32(numbers.data) != self.checksums[row, side]:
            raise UserError(
                f"{self.path} is damaged in row {row}, or its {self.path.stem}.crc.npy is: delete"
                " both; harness encode with the same words as before makes them again, and nothing"
                " else"
            )


def open_checksums(path: Path, shape: tuple[int, ...]) -> Array | None:
    """The checksums of a shard; None where it is older than these.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with path.open("rb") as file:
            skip_header(file, shape, "uint32")
            return np.frombuffer(file.read(), np.uint32).reshape(shape)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path.name}: {error}") from None


def skip_header(file: BinaryIO, shape: tuple[int, ...], dtype: str) -> int:
    """Reads the header of a .npy file, and returns where its data begin.

    Raises:
        UserError: it is damaged, or of another shape or type.
    """
    try:
        np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file)
    except (ValueError, SyntaxError, TokenError) as error:  # numpy parses it as Python
        raise UserError(f"its header is damaged: {error}") from None
    if found != (shape, False, np.dtype(dtype)):
        raise UserError(f"it holds {found[2]} {found[0]}, not {np.dtype(dtype)} {shape}")
    return file.tell()


def open_labels(folder: Path, index: Index) -> Array:
    """Opens labels.npy, a class for each row.

    Raises:
        UserError: it is damaged, has not a label for each row, or some that are no class.
    """
    path = labels_path(folder)
    classes = max(1, DATASETS[index.data].classes)  # without labels all are 0
    if sha256(path) != index.labels["sha256"]:
        raise UserError(
            f"{path} is damaged, its SHA-256 is not the index's: delete it, and"
            f" {how_to_remake(folder, index)}"
        )
    try:
        labels: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(
            f"{path} is no array ({error}): delete it, and {how_to_remake(folder, index)}"
        ) from None
    if labels.shape != (index.rows,) or labels.min() < 0 or labels.max() >= classes:
        is_now = f"{labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}"
        raise UserError(
            f"{path} holds {is_now}, not {index.rows} labels 0 … {classes - 1}: delete it, and"
            f" {how_to_remake(folder, index)}"
        )
    return labels


def open_shards(folder: Path, index: Index) -> list[Shard]:
    """Opens every shard.

    Raises:
        UserError: files that are no shards, all at once.
    """
    shards, problems = [], []
    for i in range(len(index.shards)):
        path, rows = shard_path(folder, i), min(index.shard, index.rows - i * index.shard)
        try:
            shards.append(Shard(path, checksums_path(folder, i), (rows, *index.shape), index.dtype))
        except UserError as error:
            problems.append(
                f"{path} is no shard ({error}): delete it, and {how_to_remake(folder, index)}"
            )
    refuse(f"dataset {index.data}", problems)
    return shards
