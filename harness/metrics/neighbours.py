"""Precision, recall, density, coverage: how far one set lies within reach of another's points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.metrics.reference import Features, Reference
from harness.metrics.rows import Values

Distances = Callable[[Tensor, Tensor], Tensor]
NEIGHBOURS = 3  # k of Kynkäänniemi et al. 2019, as ADM sets it
DENSITY_NEIGHBOURS = 5  # k of Naeem et al. 2020 and of dgm-eval
BLOCK = 4000  # rows of a block of distances in fp32


def neighbours(features: Features, reference: Reference) -> Values:
    """Precision and recall of the pooled layer by the reference's images."""
    precision, recall = precision_recall(features["pool"], reference.features["pool"])
    return {"precision": precision, "recall": recall}


def density_and_coverage(features: Features, reference: Reference) -> Values:
    """Density and coverage of the pooled layer by the reference's images."""
    density, coverage = density_coverage(features["pool"], reference.features["pool"])
    return {"density": density, "coverage": coverage}


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances [len(a), len(b)] in fp32."""
    return torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True))


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Precision and recall of features [N, D] by [M, D] in fp32 (Kynkäänniemi et al. 2019, k = 3).

    Distances do not depend on the origin: the mean goes first, or it would take digits from
    |a|² - 2ab + |b|².
    """
    centre = real.mean(0)
    return by_blocks(generated - centre, real - centre, squared_distances, BLOCK)


def density_coverage(
    generated: Tensor, real: Tensor, k: int = DENSITY_NEIGHBOURS
) -> tuple[float, float]:
    """Density and coverage of features [N, D] by [M, D] in fp32 (Naeem et al. 2020).

    Density: real balls that a sample lies in, over k; 1 is expected of equal distributions, and it
    may be larger. Coverage: the share of real images whose ball holds a sample. A ball reaches
    to the k-th nearest real neighbour, and its surface is outside.

    Raises:
        UserError: there are not more real images than neighbours.
    """
    if len(real) <= k:
        raise UserError(f"density and coverage by {len(real)} images: give {k + 1} or more")
    centre = real.mean(0)
    generated, real = generated - centre, real - centre
    radius = radii(real, squared_distances, BLOCK, k)
    held, covered = 0, torch.zeros(len(real), dtype=torch.bool)
    for i in range(0, len(real), BLOCK):
        for columns in torch.split(generated, BLOCK):
            rows = slice(i, i + BLOCK)
            inside = squared_distances(real[rows], columns) < radius[rows, None]
            held += int(inside.sum())
            covered[rows] |= inside.any(1)
    return held / (k * len(generated)), float(covered.double().mean())


def by_blocks(
    generated: Tensor, real: Tensor, distances: Distances, block: int
) -> tuple[float, float]:
    """Precision and recall by any distances, block² of them at a time.

    All distances of 50,000 × 10,000 features would be 2 GB.

    Raises:
        UserError: a set has fewer than 4 rows.
    """
    if min(len(generated), len(real)) <= NEIGHBOURS:
        raise UserError(
            f"precision and recall of {len(generated)} samples by {len(real)} images: give 4 or"
            " more"
        )
    radius, real_radius = radii(generated, distances, block), radii(real, distances, block)
    inside = torch.zeros(len(generated), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for i in range(0, len(real), block):
        for j in range(0, len(generated), block):
            rows, columns = slice(i, i + block), slice(j, j + block)
            apart = distances(real[rows], generated[columns])
            inside[columns] |= (apart <= real_radius[rows, None]).any(0)
            covered[rows] |= (apart <= radius[columns]).any(1)
    return float(inside.double().mean()), float(covered.double().mean())


def radii(features: Tensor, distances: Distances, block: int, k: int = NEIGHBOURS) -> Tensor:
    """Squared distance of every row to its k-th nearest neighbour, after itself."""
    found = []
    for rows in torch.split(features, block):
        blocks = (distances(rows, columns) for columns in torch.split(features, block))
        nearest = [apart.topk(min(k + 1, apart.shape[1]), largest=False).values for apart in blocks]
        found.append(torch.cat(nearest, 1).kthvalue(k + 1).values)
    return torch.cat(found)
