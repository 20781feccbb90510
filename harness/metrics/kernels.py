"""Distances by kernels: KID."""

from __future__ import annotations

from torch import Tensor

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision

# isort: split
from torch_fidelity.metric_kid import kid_features_to_metric

from harness.metrics.reference import Features, Reference
from harness.metrics.rows import Values


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
