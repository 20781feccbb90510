"""Averages of any length from those that were tracked: shares of snapshots, by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harness.spec.ema import gamma_of

FARTHEST = 0.1  # relative distance of a rebuilt profile from the wanted one


class Shares(NamedTuple):
    """How an average is rebuilt: `of[i, k]` is the share of snapshot i of the k-th average.

    error: the distance of the profile they add up to from the wanted one, over its own length.
    """

    of: np.ndarray
    error: float


def overlap(t: np.ndarray, g: np.ndarray, u: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Inner products of profiles (g + 1) τ^g / t^(g + 1) on 0 … t: how a step weighs, by time."""
    low, high = np.minimum(t, u), np.maximum(t, u)
    late = np.where(t < u, h, g)  # the exponent of the profile that ends later
    return (g + 1) * (h + 1) / (g + h + 1) * (low / high) ** late / high


def shares(widths: Sequence[float], steps: Sequence[int], width: float, step: int) -> Shares:
    """The shares of snapshots at `steps` of averages of `widths` that come nearest to `width`.

    Nearest in the square of the profiles' difference (Karras et al. 2024, EDM2, section 3.2), among
    shares that add up to 1, so that what never moved comes back exactly.
    """
    ends = np.repeat(np.asarray(steps, float), len(widths)) / step
    powers = np.tile([gamma_of(each) for each in widths], len(steps))
    end, power = np.array([1.0]), np.array([gamma_of(width)])
    gram = overlap(ends[:, None], powers[:, None], ends, powers)
    wanted = overlap(ends, powers, end, power)
    one = np.ones((len(ends), 1))
    bordered = np.block([[gram, one], [one.T, np.zeros((1, 1))]])
    found = np.linalg.lstsq(bordered, np.append(wanted, 1.0), rcond=None)[0][:-1]
    length = float(overlap(end, power, end, power)[0])
    square = length - 2 * wanted @ found + found @ gram @ found
    error = float(np.sqrt(max(square, 0.0) / length))
    return Shares(found.reshape(len(steps), len(widths)), error)
