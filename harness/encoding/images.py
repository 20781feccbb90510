"""From an image file to the square that ADM makes of it, ahead of need and in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from harness.base.errors import UserError
from harness.base.images import Unreadable, decode, refuse_pixels
from harness.encoding.sources import Source, open_source

IN_FLIGHT = 4  # images decoded or waiting, a thread

Pixels = np.ndarray[Any, Any]  # uint8 [side, side, 3], or [side, side] of grey


def center_crop(image: Image.Image, side: int) -> Pixels:
    """ADM's square: halved by a box filter while twice too large, bicubic to the short side, cut.

    Source: openai/guided-diffusion, image_datasets.py.

    Raises:
        Unreadable: a strip so long that its short side cannot be brought to `side`.
    """
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    refuse_pixels(width, height)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - side) // 2, (height - side) // 2
    return np.asarray(image)[top : top + side, left : left + side]


def squares(path: Path, side: int, channels: int, batch: int) -> tuple[int, Iterator[Tensor]]:
    """Number of the images at `path`, and their squares, uint8 [N, channels, side, side].

    Raises:
        UserError: no images there; while they are read, one is unreadable.
    """
    source, mode = open_source(path), "RGB" if channels == 3 else "L"
    count = len(source.names)
    images = decoded(source, range(count), side, len(os.sched_getaffinity(0)), mode)

    def batches() -> Iterator[Tensor]:
        for low in range(0, count, batch):
            rows = list(islice(images, batch))
            for name, image in zip(source.names[low:], rows, strict=False):
                if isinstance(image, str):
                    raise UserError(f"{path}: {name}: {image}: remove it, or fix it")
            stacked = np.stack([np.atleast_3d(image) for image in rows])
            yield torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()

    return count, batches()


def decoded(
    source: Source, rows: Iterable[int], side: int, threads: int, mode: str = "RGB"
) -> Iterator[Pixels | str]:
    """The squares of `rows` in order, or what is wrong with one, made ahead by `threads` threads.

    Pixels become RGB, or of Pillow's other `mode`, as Pillow and ADM do it: alpha is dropped,
    16-bit grey is clipped at 255, and EXIF's orientation is ignored.

    Raises:
        OSError: the disk failed.
    """

    def load(row: int) -> Pixels | str:
        try:
            return center_crop(decode(source.read(row), mode), side)
        except Unreadable as fault:
            return str(fault)

    with ThreadPoolExecutor(threads) as pool:
        coming: deque[Future[Pixels | str]] = deque()
        try:
            for row in rows:
                coming.append(pool.submit(load, row))
                if len(coming) > IN_FLIGHT * threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
