"""MIND, the Monge Inception Distance: one-dimensional transport along random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.metrics.reference import Features, Reference
from harness.metrics.rows import Values

DIRECTIONS = 1000
AT_ONCE = 50  # directions: 50,000 projections on each are 10 MB


def mind(features: Features, reference: Reference) -> Values:
    """MIND of the pooled layer to the reference's images (Berthet et al. 2026)."""
    return {"mind": sliced_distance(features["pool"], reference.features["pool"])}


def sliced_distance(generated: Tensor, real: Tensor, seed: int = 0) -> float:
    """3 D times the mean squared distance of sorted projections of [N, D] and [M, D].

    The mean is over images and over 1,000 random directions. Of the larger set a random part as
    large as the smaller one is taken, since sorted projections are paired.
    """
    draw = torch.Generator().manual_seed(seed)
    n, width = min(len(generated), len(real)), generated.shape[1]
    own, other = part(generated, n, draw), part(real, n, draw)
    directions = torch.nn.functional.normalize(torch.randn(DIRECTIONS, width, generator=draw))
    found = [
        (sorted_projections(own, some) - sorted_projections(other, some)).square().mean().double()
        for some in torch.split(directions, AT_ONCE)
    ]
    return 3 * width * float(torch.stack(found).mean())


def part(x: Tensor, n: int, draw: torch.Generator) -> Tensor:
    """n random rows in fp32; all of them as they are."""
    chosen = x if len(x) == n else x[torch.randperm(len(x), generator=draw)[:n]]
    return chosen.float()


def sorted_projections(x: Tensor, directions: Tensor) -> Tensor:
    """[N, D] and [M, D] → [M, N], each row rising."""
    return (directions @ x.T).sort(dim=1).values
