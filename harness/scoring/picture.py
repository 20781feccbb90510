"""Images as one picture, clips as strips of frames: rows of eight images or of one clip, a PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from harness.base.files import atomic_write

ACROSS = 8
SHORTEST = 64  # pixels of an image's side in the picture: digits of 16 would be specks
GAP, GREY = 2, 128  # between images, which may be black or white at their edges


def strips(images: Tensor) -> Tensor:
    """Returns clips [N, C, F, H, W] as images [N, C, H, F · W], frame by frame; images stay."""
    return images if images.ndim == 4 else images.movedim(2, 3).flatten(3)


def write_picture(out: Path, images: Tensor) -> None:
    """Writes images uint8 [N, 1 or 3, H, W] side by side, or clips below each other, on grey."""
    across = ACROSS if images.ndim == 4 else 1
    pixels = strips(images).permute(0, 2, 3, 1).expand(-1, -1, -1, 3).cpu().numpy()
    scale = max(1, SHORTEST // pixels.shape[1])
    tiles = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = (side + GAP for side in tiles.shape[1:3])
    columns = min(across, len(tiles))
    rows = -(-len(tiles) // columns)
    canvas = np.full((rows * height + GAP, columns * width + GAP, 3), GREY, np.uint8)
    for number, tile in enumerate(tiles):
        top, left = (number // columns) * height + GAP, (number % columns) * width + GAP
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    with atomic_write(out) as beside:
        Image.fromarray(canvas).save(beside, format="PNG")
