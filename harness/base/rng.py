"""Randomness as a function of position: rows of endless tables, and a permutation by index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Rows drawn by one generator. A larger block wastes more where a rank's share of a batch ends
# inside it, a smaller one spends more time seeding. Changing it changes every result.
BLOCK = 64
INCREMENT, MULTIPLIER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's


def seed(*key: object) -> int:
    """Makes a seed of the words and numbers of `key`, the same on every machine."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(device: torch.device | str, *key: object) -> torch.Generator:
    """Makes a generator seeded by `key`."""
    return torch.Generator(device).manual_seed(seed(*key))


def rows(
    low: int,
    high: int,
    device: torch.device | str,
    *key: object,
    draw: Callable[[torch.Generator], Tensor],
) -> Tensor:
    """Returns rows low … high of the endless table `key`.

    `draw` makes BLOCK rows from a generator of their own. So a row depends on the key and its index
    alone: not on the rank, nor on how many rows are drawn at once.
    """
    first, last = low // BLOCK, -(-high // BLOCK)
    blocks = [draw(generator(device, *key, block)) for block in range(first, last)]
    return torch.cat(blocks)[low - first * BLOCK : high - first * BLOCK]


def normal(
    low: int, high: int, shape: tuple[int, ...], device: torch.device | str, *key: object
) -> Tensor:
    """Draws standard normal rows [high - low, *shape] in fp32."""

    def draw(g: torch.Generator) -> Tensor:
        return torch.randn(BLOCK, *shape, generator=g, device=device)

    return rows(low, high, device, *key, draw=draw)


def integers(low: int, high: int, bound: int, device: torch.device | str, *key: object) -> Tensor:
    """Draws uniform integers [high - low] in 0 … bound - 1."""

    def draw(g: torch.Generator) -> Tensor:
        return torch.randint(bound, (BLOCK,), generator=g, device=device)

    return rows(low, high, device, *key, draw=draw)


def uniform(low: int, high: int, device: torch.device | str, *key: object) -> Tensor:
    """Draws uniform numbers [high - low] in [0, 1)."""

    def draw(g: torch.Generator) -> Tensor:
        return torch.rand(BLOCK, generator=g, device=device)

    return rows(low, high, device, *key, draw=draw)


def permuted(index: np.ndarray, size: int, base: int, epoch: int) -> np.ndarray:
    """Maps `index` by a permutation of 0 … size - 1, another for each (base seed, epoch).

    In constant memory: a four-round Feistel network over the next even power of two, applied again
    to what falls outside 0 … size - 1.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence([base, epoch]).generate_state(4, np.uint64)
    out = index.astype(np.uint64)
    walking = np.ones(len(out), dtype=bool)
    while walking.any():
        left, right = out[walking] >> np.uint64(half), out[walking] & low
        for key in keys:
            mixed = (right ^ key) * INCREMENT
            mixed = (mixed ^ (mixed >> np.uint64(29))) * MULTIPLIER
            left, right = right, left ^ ((mixed >> np.uint64(32)) & low)
        out[walking] = (left << np.uint64(half)) | right
        walking = out >= size
    return out.astype(np.int64)


def data_order(step: int, low: int, high: int, batch_size: int, size: int, base: int) -> np.ndarray:
    """Returns the samples in slots low … high of the batch of `step`, which counts from 1.

    Each sample comes once an epoch.
    """
    position = np.arange(low, high) + (step - 1) * batch_size
    epochs = position // size
    out = np.empty_like(position)
    for epoch in np.unique(epochs):
        out[epochs == epoch] = permuted(position[epochs == epoch] % size, size, base, int(epoch))
    return out
