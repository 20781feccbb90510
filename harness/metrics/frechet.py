"""Fréchet distances: FID, sFID, and FID∞ with its interval."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from harness.base.errors import UserError
from harness.base.npz import Array
from harness.metrics.reference import Features, Reference, moments
from harness.metrics.rows import Values

SUBSETS = 15  # whose FID the line of FID∞ goes through
# Student's t, two-sided 95 %, 15 points less the two of a line: 2.160, as every record has had it.
T_95 = round(float(stats.t.ppf(0.975, SUBSETS - 2)), 3)


def frechet_distance(mu_1: Array, sigma_1: Array, mu_2: Array, sigma_2: Array) -> float:
    """Squared Fréchet distance of two Gaussians, in float64.

    |mu_1 - mu_2|² + tr(sigma_1 + sigma_2 - 2 (sigma_1 sigma_2)^½) (Heusel et al. 2017).

    Raises:
        UserError: it is negative beyond rounding: one of the two is no covariance.
    """
    cross = trace_of_root(torch.from_numpy(sigma_1), torch.from_numpy(sigma_2))
    traces = float(np.trace(sigma_1) + np.trace(sigma_2))
    distance = float(np.square(mu_1 - mu_2).sum() + np.trace(sigma_1) + np.trace(sigma_2))
    distance -= 2 * cross
    if distance < -1e-6 * abs(traces):
        raise UserError(
            f"the Fréchet distance is {distance:.6g}, below 0: the reference's sigma is no"
            " covariance; fetch or make it again"
        )
    return distance


def trace_of_root(a: Tensor, b: Tensor) -> float:
    """tr (ab)^½. torch-fidelity treats ab as a general matrix, which takes three times as long.

    With b = LL' its eigenvalues are those of the symmetric L'aL. A singular b has no such L, and
    an eigenvalue of 1e-16 instead of 0 would count with its root, 1e-8: singular values of the
    product of roots have no such noise.
    """
    factor, singular = torch.linalg.cholesky_ex(b)
    if singular:
        return float(torch.linalg.svdvals(root(a).T @ root(b)).sum())
    return float(torch.linalg.eigvalsh(factor.T @ a @ factor).clamp_min(0).sqrt().sum())


def root(sigma: Tensor) -> Tensor:
    """A matrix whose product with its transpose is sigma."""
    eigenvalues, vectors = torch.linalg.eigh(sigma)
    scaled: Tensor = vectors * eigenvalues.clamp_min(0).sqrt()
    return scaled


def distance(features: Tensor, statistics: tuple[Array, Array]) -> float:
    """Fréchet distance of [N, D] to a mean and a covariance."""
    own = moments(features)
    return frechet_distance(own.mean, own.sigma, *statistics)


def fid(features: Features, reference: Reference) -> Values:
    """Fréchet distance of the pooled layer to the reference's statistics, not to its images."""
    return {"fid": distance(features["pool"], reference.statistics["pool"])}


def sfid(features: Features, reference: Reference) -> Values:
    """Fréchet distance of the spatial layer (Nash et al. 2021)."""
    return {"sfid": distance(features["spatial"], reference.statistics["spatial"])}


def fid_infinity(
    pool: Tensor, mu: Array, sigma: Array, seed: int = 0
) -> tuple[float, float, float]:
    """FID extrapolated to infinitely many samples, with its 95 % interval: (value, low, high).

    Chong & Forsyth 2020: a line in 1/N through the FID of 15 random subsets of pool [N, D] is read
    at 0. The interval is that of the intercept. Subsets overlap, so it says how well a line fits,
    and not the spread over new samples.
    """
    n, width = pool.shape
    smallest = max(n // 10, min(2 * width, n // 2))  # FID is linear in 1/N well above D
    sizes = np.linspace(smallest, n, SUBSETS).astype(int)
    rng = np.random.default_rng(seed)
    subsets = (moments(pool[rng.choice(n, size, replace=False)]) for size in sizes)
    distances = [frechet_distance(own.mean, own.sigma, mu, sigma) for own in subsets]
    line = stats.linregress(1 / sizes, distances)
    value, half = float(line.intercept), T_95 * float(line.intercept_stderr)
    return value, value - half, value + half


def infinity(features: Features, reference: Reference) -> Values:
    """FID∞ and its interval."""
    value, low, high = fid_infinity(features["pool"], *reference.statistics["pool"])
    return {"fid_infinity": value, "fid_infinity_low": low, "fid_infinity_high": high}
