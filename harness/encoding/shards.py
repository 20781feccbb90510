"""One shard: images through the VAE's encoder, and the file that they become."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.base.distributed import Interrupted, Stop
from harness.base.errors import UserError
from harness.base.files import atomic_write, write_json
from harness.base.precision import matmul_precision
from harness.data import index as files
from harness.encoding.images import Pixels

TELL_S = 5  # between two lines of a log

Array = np.ndarray[Any, Any]
Note = dict[str, Any]  # what lies beside a whole shard


class Batch(NamedTuple):
    """fp16 rows [N, mirrored, moment, C, h, w], NaN where there is a fault: {place in the batch: what is wrong}."""

    rows: Array
    faults: dict[int, str]


def encoder(
    vae: Any, device: torch.device, shape: list[int]
) -> Callable[[list[Pixels | str]], Batch]:
    """What makes a batch of images, or of words for those that could not be read; the VAE is on the device."""

    @torch.inference_mode()
    @matmul_precision("tf32")  # as the released training script encodes
    def posterior(images: Array) -> Array:
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        found = vae.encode(torch.cat([x, x.flip(-1)])).latent_dist
        moments: Tensor = torch.stack([found.mean, found.std], 1).half()
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


def write_shard(
    out: Path,
    shard: int,
    span: range,
    batches: Iterator[Batch],
    made: dict[str, Any],
    stop: Stop,
    progress: Callable[[float], None],
) -> Note:
    """Rows `span` as a file, batch by batch, and then its note.

    Raises:
        Interrupted: a signal came; there is neither.
    """
    path, digest, bad = files.shard_path(out, shard), hashlib.sha256(), list[dict[str, Any]]()
    files.note_path(out, shard).unlink(missing_ok=True)
    with atomic_write(path) as beside, beside.open("wb") as file:

        def write(block: Any) -> None:
            digest.update(block)
            file.write(block)

        write(header((len(span), *made["shape"])))
        row, told = span.start, time.monotonic()
        while row < span.stop:
            if stop.signals:
                raise Interrupted
            batch = next(batches)
            write(batch.rows.data)
            bad += [{"row": row + i, "fault": fault} for i, fault in batch.faults.items()]
            row += len(batch.rows)
            if row == span.stop or time.monotonic() - told > TELL_S:
                progress((row - span.start) / len(span))
                told = time.monotonic()
        size = file.tell()
    note = {"bytes": size, "sha256": digest.hexdigest(), "unreadable": bad, "made": made}
    write_json(files.note_path(out, shard), note)
    return note


def header(shape: tuple[int, ...]) -> bytes:
    """Of a .npy file of fp16."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f2", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()
