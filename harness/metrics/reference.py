"""What samples are compared with: moments of features, joined over parts, and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.npz import Array

Features = dict[str, Tensor]  # by layer, [images, numbers]


@dataclass(frozen=True)
class Moments:
    """Number, mean [D] and scatter [D, D] of a set in float64; `+` joins two sets.

    The scatter is the sum of the outer products of deviations.
    """

    n: int
    mean: Array
    scatter: Array

    def __add__(self, other: Moments) -> Moments:
        """Chan, Golub & LeVeque 1979: sums of raw products would cancel where the mean is large."""
        n, apart = self.n + other.n, other.mean - self.mean
        between = np.outer(apart, apart) * (self.n * other.n / n)
        return Moments(n, self.mean + apart * (other.n / n), self.scatter + other.scatter + between)

    @property
    def sigma(self) -> Array:
        """Unbiased covariance [D, D].

        Raises:
            UserError: fewer than two rows.
        """
        if self.n < 2:
            raise UserError(f"{self.n} image has no covariance: give at least 2")
        return self.scatter / (self.n - 1)


def moments(features: Tensor) -> Moments:
    """Moments of [N, D], by blocks: two copies of 50,000 rows of Inception would be 1.6 GB."""
    return reduce(Moments.__add__, map(block_moments, torch.split(features, 4096)))


def block_moments(rows: Tensor) -> Moments:
    x = rows.to(torch.float64, copy=True)  # float64 features would be centred in place
    mean = x.mean(0)
    x -= mean
    return Moments(len(x), mean.numpy(), (x.T @ x).numpy())


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: it holds arrays
class Reference:
    """What samples are compared with: float64 mean and covariance by layer, fp32 features by layer.

    `n` images are behind the statistics where the file says so. ADM's files do not: there it counts
    the images they hold (10,000), while mu and sigma are those of the whole training set.
    """

    name: str
    digest: str
    n: int
    statistics: Mapping[str, tuple[Array, Array]]
    features: Features

    @property
    def kept(self) -> int:
        """Images whose features are here, for metrics that compare with images."""
        return len(next(iter(self.features.values())))
