"""Latents on disk: memory-mapped shards, of which a batch reads its own rows alone."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from harness.base import rng
from harness.base.errors import UserError
from harness.base.files import sha256
from harness.base.validation import refuse
from harness.data.index import Index, checked, checksums_path, labels_path, remedy, shard_path
from harness.data.origin import Origin
from harness.data.rows import DATASETS

Array = np.ndarray[Any, Any]


class Shard:
    """A file of latents in the kernel's page cache, not in this process's memory.

    `checksums` has a CRC-32 for each row and side; older latents have none.

    Raises:
        UserError: it is no .npy file of these rows.
    """

    def __init__(self, path: Path, checksums: Path, shape: tuple[int, ...]) -> None:
        self.path = path
        self.checksums = open_checksums(checksums, shape[0])
        with path.open("rb") as file:
            self.start = skip_header(file, shape, np.float16)
            self.pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.rows = np.frombuffer(self.pages, np.float16, offset=self.start).reshape(shape)

    def fetch(self, row: int, side: int) -> None:
        """Has the kernel read ahead: page faults would wait for one sample after the other."""
        first = self.start + row * self.rows.strides[0] + side * self.rows.strides[1]
        page = first - first % mmap.PAGESIZE
        self.pages.madvise(mmap.MADV_WILLNEED, page, first + self.rows.strides[1] - page)

    def check(self, row: int, side: int, moments: Array) -> None:
        """
        Raises:
            UserError: these are not the moments that were written.
        """
        if self.checksums is not None and zlib.crc32(moments.data) != self.checksums[row, side]:
            raise UserError(
                f"{self.path} is damaged in row {row}, or its {self.path.stem}.crc.npy is: delete"
                " both; harness encode with the same words as before makes them again, and nothing"
                " else"
            )


def open_checksums(path: Path, rows: int) -> Array | None:
    """The checksums of a shard; None where it is older than these.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with path.open("rb") as file:
            skip_header(file, (rows, 2), np.uint32)
            return np.frombuffer(file.read(), np.uint32).reshape(rows, 2)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path.name}: {error}") from None


def skip_header(file: BinaryIO, shape: tuple[int, ...], dtype: type[np.generic]) -> int:
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


class Latents:
    """Posterior means and deviations on disk; every step draws fresh latents, mirrored or not.

    Raises:
        UserError: the latents are absent, not whole or not those of this dataset, all problems at
            once.
    """

    def __init__(self, name: str, path: Path | None) -> None:
        folder, self.index = checked(name, path)
        self.labels = open_labels(folder, self.index)
        self.shards = open_shards(folder, self.index)
        bad = np.array([x["row"] for x in self.index.unreadable], np.int64)
        # Before sample i lie as many unreadable rows as there are gaps ≤ i.
        self.gaps = bad - np.arange(len(bad))

    def __len__(self) -> int:
        return self.index.count

    @property
    def origin(self) -> Origin:
        index = self.index
        return Origin(
            images=index.count,
            digest=index.listing,
            vae=index.vae["digest"],
            scale=index.scale,
            crop=index.crop,
        )

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        """Returns samples (mean + deviation · noise) · scale and their labels, on the device.

        Noise and mirroring are functions of the slot and of `key`.
        """
        high, shape = low + len(index), tuple(self.index.shape[2:])
        # Drawn on the CPU, which reads the one image or the other.
        mirrored = rng.uniform(low, high, "cpu", "mirror", *key) < 0.5
        moments, labels = self.read(index.numpy(), mirrored.numpy(), device.type == "cuda")
        mean, deviation = moments.to(device, non_blocking=True).float().unbind(1)
        noise = rng.normal(low, high, shape, device, "posterior", *key)
        samples = noise.mul_(deviation).add_(mean).mul_(self.index.scale)
        return samples, labels.to(device, non_blocking=True)

    def read(self, samples: Array, mirrored: Array, pin: bool) -> tuple[Tensor, Tensor]:
        """Reads moments in fp16 [N, 2, C, h, w], and labels [N].

        pin: into memory that a GPU copies from by itself.
        """
        rows = samples + np.searchsorted(self.gaps, samples, side="right")
        shard, row = np.divmod(rows, self.index.shard)
        places = list(zip(shard.tolist(), row.tolist(), mirrored.astype(int).tolist(), strict=True))
        for k, i, side in places:
            self.shards[k].fetch(i, side)
        moments = torch.empty(len(rows), *self.index.shape[1:], dtype=torch.float16, pin_memory=pin)
        for place, (k, i, side) in zip(moments.numpy(), places, strict=True):
            place[:] = self.shards[k].rows[i, side]
            self.shards[k].check(i, side, place)
        labels = torch.from_numpy(self.labels[rows].astype(np.int64))
        return moments, labels.pin_memory() if pin else labels


def open_labels(folder: Path, index: Index) -> Array:
    """Opens labels.npy, a class for each row.

    Raises:
        UserError: it is damaged, has not a label for each row, or some that are no class.
    """
    path, classes = labels_path(folder), DATASETS[index.data].classes
    if sha256(path) != index.labels["sha256"]:
        raise UserError(
            f"{path} is damaged, its SHA-256 is not the index's: delete it, and"
            f" {remedy(folder, index)}"
        )
    try:
        labels: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise UserError(
            f"{path} is no array ({error}): delete it, and {remedy(folder, index)}"
        ) from None
    if labels.shape != (index.rows,) or labels.min() < 0 or labels.max() >= classes:
        is_now = f"{labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}"
        raise UserError(
            f"{path} holds {is_now}, not {index.rows} labels 0 … {classes - 1}: delete it, and"
            f" {remedy(folder, index)}"
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
            shards.append(Shard(path, checksums_path(folder, i), (rows, *index.shape)))
        except UserError as error:
            problems.append(f"{path} is no shard ({error}): delete it, and {remedy(folder, index)}")
    refuse(f"dataset {index.data}", problems)
    return shards
