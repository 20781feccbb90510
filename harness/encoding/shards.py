"""One shard: images, or what a VAE makes of them, its file, its checksums and its note."""

from __future__ import annotations

import hashlib
import io
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.base.distributed import Interrupted, Stop
from harness.base.errors import UserError
from harness.base.files import atomic_write, read_json, write_json
from harness.base.precision import matmul_precision
from harness.data import index as files
from harness.data.index import of_kind
from harness.encoding.images import Pixels

REPORT_SECONDS = 5  # between two lines of a log

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Note:
    """What lies beside a whole shard: its size and digest, its bad images, how it was made."""

    bytes: int
    sha256: str
    unreadable: list[dict[str, Any]]  # row, fault
    made: dict[str, Any]


NOTE = {"bytes": int, "sha256": str, "unreadable": list, "made": dict}
UNREADABLE = {"row": int, "fault": str}


def read_note(out: Path, shard: int, span: range) -> Note:
    """The note of a shard that holds the rows `span`.

    Raises:
        UserError: it is damaged.
    """
    path = files.note_path(out, shard)
    fields = read_json(path)
    bad: list[Any] = fields["unreadable"] if of_kind(fields, NOTE) else [None]
    if not all(of_kind(entry, UNREADABLE) and entry["row"] in span for entry in bad):
        raise UserError(
            f"{path} is no note of a shard: delete it and run the same command again, which makes"
            " that shard again"
        )
    return Note(**{name: fields[name] for name in NOTE})


class Batch(NamedTuple):
    """Rows as index.json has them; one with a fault is NaN, or 0 of pixels."""

    rows: Array
    faults: dict[int, str]  # by place in the batch, what is wrong


def encoder(
    vae: Any, device: torch.device, shape: list[int]
) -> Callable[[list[Pixels | str]], Batch]:
    """Turns images, or the faults of those that could not be read, into rows of `shape`.

    The VAE must be on the device.

    Raises:
        UserError: the VAE gives numbers that are not finite.
    """

    @torch.inference_mode()
    @matmul_precision("tf32")  # as the released training script encodes
    def posterior(images: Array) -> Array:
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        normal = vae.encode(torch.cat([x, x.flip(-1)])).latent_dist
        moments: Tensor = torch.stack([normal.mean, normal.std], 1).half()
        if not moments.isfinite().all():
            raise UserError("the VAE gives numbers that are not finite: fetch its weights again")
        return moments.unflatten(0, (2, len(images))).transpose(0, 1).cpu().numpy()

    def measure(images: list[Pixels | str]) -> Batch:
        faults = {i: image for i, image in enumerate(images) if isinstance(image, str)}
        rows = np.full((len(images), *shape), np.nan, np.float16)
        if good := [i for i in range(len(images)) if i not in faults]:
            rows[good] = posterior(np.stack([images[i] for i in good]))
        return Batch(rows, faults)

    return measure


def squares(shape: list[int]) -> Callable[[list[Pixels | str]], Batch]:
    """Turns images of data that are pixels into rows of `shape`, [1, C, H, W] in uint8."""

    def measure(images: list[Pixels | str]) -> Batch:
        rows = np.zeros((len(images), *shape), np.uint8)
        faults = {}
        for i, image in enumerate(images):
            if isinstance(image, str):
                faults[i] = image
            else:
                rows[i, 0] = np.atleast_3d(image).transpose(2, 0, 1)
        return Batch(rows, faults)

    return measure


def write_shard(
    out: Path,
    shard: int,
    span: range,
    batches: Iterator[Batch],
    made: dict[str, Any],
    stop: Stop,
    progress: Callable[[float], None],
) -> Note:
    """Writes the rows `span` batch by batch, and then the shard's note.

    Raises:
        Interrupted: a signal came; neither file is there.
    """
    path, digest, bad = files.shard_path(out, shard), hashlib.sha256(), list[dict[str, Any]]()
    checksums: list[list[int]] = []
    files.note_path(out, shard).unlink(missing_ok=True)
    with atomic_write(path) as beside, beside.open("wb") as file:

        def write(block: Any) -> None:
            digest.update(block)
            file.write(block)

        write(npy_header((len(span), *made["shape"]), made["dtype"]))
        row, reported = span.start, time.monotonic()
        while row < span.stop:
            if stop.signals:
                raise Interrupted
            batch = next(batches)
            write(batch.rows.data)
            checksums += [[zlib.crc32(side.data) for side in sides] for sides in batch.rows]
            bad += [{"row": row + i, "fault": fault} for i, fault in batch.faults.items()]
            row += len(batch.rows)
            if row == span.stop or time.monotonic() - reported > REPORT_SECONDS:
                progress((row - span.start) / len(span))
                reported = time.monotonic()
        size = file.tell()
    with atomic_write(files.checksums_path(out, shard)) as beside, beside.open("wb") as file:
        np.save(file, np.array(checksums, np.uint32))
    note = Note(size, digest.hexdigest(), bad, made)
    write_json(files.note_path(out, shard), asdict(note), checksum=True)
    return note


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """The header of a .npy file."""
    file = io.BytesIO()
    fields = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()
