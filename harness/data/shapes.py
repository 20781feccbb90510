"""The embedded colours: 10,000 shapes of eight kinds, 16 × 16, drawn by formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]

COUNT, SIDE = 10_000, 16
# Signed distances at (x, y) from a shape of radius 1, negative within.
KINDS: dict[str, Callable[[Array, Array], Array]] = {
    "disc": lambda x, y: np.hypot(x, y) - 1,
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.25,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.8,
    "diamond": lambda x, y: (np.abs(x) + np.abs(y)) / np.sqrt(2) - 0.7,
    "triangle": lambda x, y: np.maximum(np.abs(x) * 0.866 - y * 0.5, y) - 0.5,
    "cross": lambda x, y: np.minimum(
        np.maximum(np.abs(x) - 1, np.abs(y) - 0.3), np.maximum(np.abs(x) - 0.3, np.abs(y) - 1)
    ),
    "bar": lambda x, y: np.maximum(np.abs(x) - 1, np.abs(y) - 0.35),
    "pillar": lambda x, y: np.maximum(np.abs(x) - 0.35, np.abs(y) - 1),
}


def load() -> tuple[Tensor, Tensor]:
    """Draws images [10000, 3, 16, 16] in [-1, 1] and labels [10000].

    Place, radius and both colours are random; the same numbers on every machine, by numpy's
    PCG64. Colours of shape and ground differ by at least 0.8 in one channel, so that each shows.
    """
    random = np.random.default_rng(0)
    labels = np.arange(COUNT) % len(KINDS)
    radius = random.uniform(3.5, 6, (COUNT, 1, 1))
    centre = random.uniform(-1, 1, (2, COUNT, 1, 1)) * (SIDE / 2 - 0.5 - radius) + (SIDE - 1) / 2
    ground, ink = random.uniform(-1, 1, (2, COUNT, 3, 1, 1))
    channel = random.integers(3, size=COUNT)  # the one that differs
    each = np.arange(COUNT)
    ink[each, channel] = -np.sign(ground[each, channel]) * random.uniform(0.8, 1, (COUNT, 1, 1))
    grid = np.arange(SIDE)
    x, y = (grid[None, None, :] - centre[0]) / radius, (grid[None, :, None] - centre[1]) / radius
    distance = np.empty((COUNT, SIDE, SIDE))
    for label, formula in enumerate(KINDS.values()):
        of_kind = labels == label
        distance[of_kind] = formula(*np.broadcast_arrays(x[of_kind], y[of_kind]))
    cover = np.clip(0.5 - distance * radius, 0, 1)[:, None]  # edges a pixel wide
    images = ground + cover * (ink - ground)
    return torch.from_numpy(images.astype(np.float32)), torch.from_numpy(labels)
