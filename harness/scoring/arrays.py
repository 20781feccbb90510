"""Images in npz files as streams of batches: written as ADM's evaluator reads them, and read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write
from harness.base.npz import named, opened, stored_shape


def write_array(path: Path, images: Iterable[Tensor], n: int) -> None:
    """Writes `n` images of uint8 batches [N, C, …] as `arr_0`, [n, …, C]; none are held.

    Raises:
        UserError: other than n images of one shape came; no file is left.
    """
    written = expected = 0
    with atomic_write(path) as beside:
        with (
            zipfile.ZipFile(beside, "w") as archive,
            archive.open("arr_0.npy", "w", force_zip64=True) as file,
        ):
            for batch in images:
                pixels = batch.movedim(1, -1).numpy()
                if not written:
                    shape = (n, *pixels.shape[1:])
                    expected = math.prod(shape)
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                written += file.write(pixels.tobytes())
        if not written or written != expected:
            raise UserError(
                f"{written} bytes of pixels came for {path}, {n} images have {expected}:"
                " nothing written"
            )


def read_array(path: Path, batch: int = 64) -> Iterator[Tensor]:
    """uint8 batches [N, C, …] of `arr_0`, read as they are asked for, compressed or not.

    Raises:
        UserError: there are no such images, or the file is damaged.
    """
    n, *rest = stored_shape(path)
    with opened(path, "arr_0") as (file, _):
        for start in range(0, n, batch):
            size = (min(batch, n - start), *rest)
            with named(path):
                pixels = file.read(math.prod(size))
            if len(pixels) != math.prod(size):
                raise UserError(
                    f"{path} ends before image {start + size[0]} of {n}: fetch or write it again"
                )
            images = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(size)
            yield images.movedim(-1, 1)
