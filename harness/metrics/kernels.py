"""Distances by kernels: KID and CMMD."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision

# isort: split
from torch_fidelity.metric_kid import kid_features_to_metric

from harness.metrics.neighbours import squared_distances
from harness.metrics.reference import Features, Reference
from harness.metrics.rows import Values

SIGMA = 10.0  # of CMMD's Gaussian kernel
SCALE = 1000.0  # of its values, for readers
BLOCK = 4000  # rows of a block of its kernel


def kid(features: Features, reference: Reference) -> Values:
    """KID of the pooled layer to the reference's images."""
    return {"kid": subset_mmd(features["pool"], reference.features["pool"])}


def subset_mmd(generated: Tensor, real: Tensor) -> float:
    """Unbiased polynomial MMD² (Bińkowski et al. 2018), mean of 100 seeded subsets of ≤ 1,000."""
    size = min(1000, len(generated), len(real))
    result = kid_features_to_metric(
        generated.double(),
        real.double(),
        kid_subsets=100,
        kid_subset_size=size,
        rng_seed=0,
        verbose=False,
    )
    return float(result["kernel_inception_distance_mean"])


def cmmd(features: Features, reference: Reference) -> Values:
    """CMMD of the pooled layer to the reference's images (Jayasumana et al. 2024).

    It is CMMD through CLIP's ViT-L/14 at 336 pixels alone; of other features it is a distance of
    the same form.
    """
    own, real = (F.normalize(x["pool"], dim=1) for x in (features, reference.features))
    return {"cmmd": gaussian_mmd(own, real)}


def gaussian_mmd(x: Tensor, y: Tensor) -> float:
    """1000 times the biased squared MMD of [N, D] and [M, D] with a Gaussian kernel, σ = 10."""
    return SCALE * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def mean_kernel(x: Tensor, y: Tensor) -> float:
    """The mean of exp(-|a - b|² / 2σ²) - 1 over all pairs, by blocks.

    The ones cancel in MMD; of unit vectors the rest is below 0.02, and fp32 keeps its digits.
    """
    total = 0.0
    for rows in torch.split(x, BLOCK):
        for columns in torch.split(y, BLOCK):
            kernel = squared_distances(rows, columns).div_(-2 * SIGMA**2).expm1_()
            total += float(kernel.sum(dtype=torch.float64))
    return total / (len(x) * len(y))
