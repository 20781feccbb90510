"""Figure 7: the same noise and labels through every model, pixel for pixel."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from analysis import style
from analysis.samples import Samples

# Dots between two images at least.
GAP = 4


def figure_07(samples: Samples, ax: Axes) -> Axes:
    """Draws a row per model and a column per label; the axes shrink to whole pixels of the PNG.

    Small images are enlarged by a whole factor, large ones averaged down, so that none is
    sampled unevenly.
    """
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    names = [style.literal(str(name)) for name in samples.get("name", samples["model"])]
    dots = style.dots()
    left = 0.62 * 0.87 * style.em() * max(map(len, names)) + 1.2 * style.em()
    width = figure.get_figwidth() - left - style.RIGHT * style.em()
    rows, columns = samples["images"].shape[:2]
    images, scale = fitted(samples["images"], int(width * dots) // columns)
    gap = -(-GAP // scale)
    mosaic = tiles(images, gap)
    ax.imshow(mosaic, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    # In dots from the lower left corner, whole ones.
    size = np.array([mosaic.shape[1], mosaic.shape[0]]) * scale
    top = np.round(figure.get_figheight() * dots - (style.TOP + 0.3) * style.em() * dots)
    corner = np.array([np.round(left * dots), top - size[1]])
    inches = np.tile(figure.get_size_inches(), 2)
    ax.set_position(tuple(np.concatenate([corner, size]) / dots / inches))
    tall, wide = images.shape[2] + gap, images.shape[3] + gap
    ax.set_yticks((np.arange(rows) + 0.5) * tall - 0.5, names)
    ax.set_xticks((np.arange(columns) + 0.5) * wide - 0.5, map(str, samples["labels"]))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    ax.set(xlabel="Label")
    ax.set_title(f"Step {int(samples['step']):,}", loc="left")
    return ax


def fitted(images: np.ndarray, cell: int) -> tuple[np.ndarray, int]:
    """Returns images of at most `cell` dots with their gap, and the whole factor to enlarge by."""
    height, width = images.shape[2:4]
    scale = max((cell - GAP) // width, 1)
    while scale > 1 and scale * (width - (-GAP // scale)) > cell:
        scale -= 1
    if scale * (width - (-GAP // scale)) <= cell:
        return images, scale
    across = max(cell - GAP, 1)
    size = across, max(round(height * across / width), 1)
    shrunk = [
        np.asarray(Image.fromarray(image.squeeze()).resize(size, Image.Resampling.LANCZOS))
        for image in images.reshape(-1, *images.shape[2:])
    ]
    return np.stack(shrunk).reshape(*images.shape[:2], size[1], size[0], images.shape[4]), 1


def tiles(images: np.ndarray, gap: int) -> np.ndarray:
    """Returns one image of all, with a light gap around each that keeps dark neighbours apart."""
    around = [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)]
    padded = np.pad(images, around, constant_values=255)
    rows, columns, height, width, channels = padded.shape
    mosaic = padded.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
    return mosaic if channels == 3 else mosaic[..., 0]
