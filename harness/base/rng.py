"""Randomness as a function of position: rows of endless tables, and a permutation addressed by index."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

# Rows drawn by one generator. Larger wastes more where a rank's share of a batch ends inside a
# block, smaller spends more time seeding. It addresses every random number: changing it changes
# every result.
BLOCK = 64


def seed(*key: object) -> int:
    """A seed from the words and numbers of `key`, the same on every machine."""
    return (
        int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little") >> 1
    )


def generator(device: torch.device | str, *key: object) -> torch.Generator:
    """A generator seeded by `key`."""
    return torch.Generator(device).manual_seed(seed(*key))


def rows(
    low: int,
    high: int,
    device: torch.device | str,
    *key: object,
    draw: Callable[[torch.Generator], Tensor],
) -> Tensor:
    """Rows low … high of the endless table `key`, whose every BLOCK rows `draw` makes from their own generator.

    What a row holds depends on the key and its index alone: not on who asks, nor on how many rows
    at once.
    """
    first, last = low // BLOCK, -(-high // BLOCK)
    blocks = [draw(generator(device, *key, block)) for block in range(first, last)]
    return torch.cat(blocks)[low - first * BLOCK : high - first * BLOCK]


def normal(
    low: int, high: int, shape: tuple[int, ...], device: torch.device | str, *key: object
) -> Tensor:
    """Standard normal rows [high - low, *shape] in fp32."""
    return rows(
        low,
        high,
        device,
        *key,
        draw=lambda g: torch.randn(BLOCK, *shape, generator=g, device=device),
    )


def integers(low: int, high: int, bound: int, device: torch.device | str, *key: object) -> Tensor:
    """Uniform integers [high - low] in 0 … bound - 1."""
    return rows(
        low,
        high,
        device,
        *key,
        draw=lambda g: torch.randint(bound, (BLOCK,), generator=g, device=device),
    )


def uniform(low: int, high: int, device: torch.device | str, *key: object) -> Tensor:
    """Uniform numbers [high - low] in [0, 1)."""
    return rows(
        low, high, device, *key, draw=lambda g: torch.rand(BLOCK, generator=g, device=device)
    )


def permuted(index: np.ndarray, size: int, base: int, epoch: int) -> np.ndarray:
    """Where a permutation of 0 … size - 1, of its own for each (base seed, epoch), sends `index`; in constant memory.

    A four-round Feistel network over the next even power of two; what falls outside 0 … size - 1
    walks on.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    low = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence([base, epoch]).generate_state(4, np.uint64)
    out = index.astype(np.uint64)
    walking = np.ones(len(out), dtype=bool)
    while walking.any():
        left, right = out[walking] >> np.uint64(half), out[walking] & low
        for key in keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(
                0xBF58476D1CE4E5B9
            )  # as in splitmix64
            left, right = right, left ^ ((mixed >> np.uint64(32)) & low)
        out[walking] = (left << np.uint64(half)) | right
        walking = out >= size
    return out.astype(np.int64)


def data_order(step: int, low: int, high: int, batch_size: int, size: int, base: int) -> np.ndarray:
    """Which samples the slots low … high of the batch of `step` (from 1) hold: each sample once an epoch."""
    position = np.arange(low, high) + (step - 1) * batch_size
    epochs = position // size
    out = np.empty_like(position)
    for epoch in np.unique(epochs):
        out[epochs == epoch] = permuted(position[epochs == epoch] % size, size, base, int(epoch))
    return out
