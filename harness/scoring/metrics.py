"""From features to values: FID, sFID, Inception score, precision and recall, KID, FID-infinity; maths only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity, which imports torchvision
from harness.base.errors import UserError

# isort: split
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from harness.scoring.features import Features
from harness.scoring.reference import Array, Reference, moments

Distances = Callable[[Tensor, Tensor], Tensor]
NEIGHBOURS = 3  # k of Kynkaanniemi et al. 2019, as ADM sets it
SPLIT = 5000  # images of one split of ADM's Inception score
T_95 = 2.160  # Student's t with 13 degrees of freedom, two-sided 95 %: 15 points less the two of a line


def frechet_distance(mu_1: Array, sigma_1: Array, mu_2: Array, sigma_2: Array) -> float:
    """|mu_1 - mu_2|^2 + tr(sigma_1 + sigma_2 - 2 (sigma_1 sigma_2)^(1/2)) of two Gaussians in float64 (Heusel 2017)."""
    cross = _trace_of_root(torch.from_numpy(sigma_1), torch.from_numpy(sigma_2))
    return float(np.square(mu_1 - mu_2).sum() + np.trace(sigma_1) + np.trace(sigma_2)) - 2 * cross


def _trace_of_root(a: Tensor, b: Tensor) -> float:
    """tr (a b)^(1/2). torch-fidelity treats the product as a general matrix, which takes three times as long.

    With b = L L' its eigenvalues are those of the symmetric L' a L. A singular b has no such L, and
    an eigenvalue of 1e-16 instead of 0 would count with its root, 1e-8: singular values of the
    product of roots have no such noise.
    """
    factor, singular = torch.linalg.cholesky_ex(b)
    if singular:
        return float(torch.linalg.svdvals(_root(a).T @ _root(b)).sum())
    return float(torch.linalg.eigvalsh(factor.T @ a @ factor).clamp_min(0).sqrt().sum())


def _root(sigma: Tensor) -> Tensor:
    eigenvalues, vectors = torch.linalg.eigh(sigma)
    root: Tensor = vectors * eigenvalues.clamp_min(0).sqrt()
    return root


def fid(features: Features, reference: Reference) -> float:
    """Frechet distance of the pooled layer to the reference's statistics, not to its 10,000 images."""
    own = moments(features["pool"])
    return frechet_distance(own.mean, own.sigma, reference.mu, reference.sigma)


def sfid(features: Features, reference: Reference) -> float:
    """The same of the spatial layer (Nash et al. 2021)."""
    own = moments(features["spatial"])
    return frechet_distance(own.mean, own.sigma, reference.mu_s, reference.sigma_s)


def inception_score(logits: Tensor) -> float:
    """Mean over consecutive splits of 5,000 as ADM takes them: the last one may be shorter and counts as much.

    Images must come in random order of label: a split of few classes has a small score.
    """
    scores = [
        isc_features_to_metric(split, splits=1, shuffle=False)
        for split in torch.split(logits, SPLIT)
    ]
    return float(np.mean([score["inception_score_mean"] for score in scores]))


def kid(generated: Tensor, real: Tensor) -> float:
    """Unbiased polynomial MMD^2 (Binkowski et al. 2018), mean of 100 seeded subsets of up to 1,000."""
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


def fid_infinity(
    pool: Tensor, mu: Array, sigma: Array, seed: int = 0
) -> tuple[float, float, float]:
    """FID extrapolated to infinitely many samples, with its 95 % interval: (value, low, high).

    Chong & Forsyth 2020: a line in 1/N through the FID of 15 random subsets of pool [N, D] is read
    at 0. The interval is that of the intercept. Subsets overlap, so it tells how well a line fits,
    and not the spread over new samples.
    """
    n, width = pool.shape
    sizes = np.linspace(max(n // 10, min(2 * width, n // 2)), n, 15).astype(
        int
    )  # FID is linear in 1/N well above D
    rng = np.random.default_rng(seed)
    subsets = (moments(pool[rng.choice(n, size, replace=False)]) for size in sizes)
    values = [frechet_distance(own.mean, own.sigma, mu, sigma) for own in subsets]
    design = np.stack([np.ones(15), 1 / sizes], axis=1)
    line = np.linalg.lstsq(design, values)[0]
    variance = np.square(values - design @ line).sum() / 13 * np.linalg.inv(design.T @ design)[0, 0]
    half = T_95 * float(np.sqrt(variance))
    return float(line[0]), float(line[0]) - half, float(line[0]) + half


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared Euclidean distances [len(a), len(b)] in fp32."""
    return torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True))


def fp16_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances as ADM takes them: a block in fp16, or in fp32 where fp16 overflows within it."""
    u, v = a.half(), b.half()
    products = (u.float() @ v.float().T).half()  # fp16 in and out, summed in fp32
    distances = (_fp16_norms(u)[:, None] - products.mul_(2)).add_(_fp16_norms(v)).clamp_min_(0)
    return (
        distances.float() if distances.isfinite().all() else squared_distances(a, b).clamp_min_(0)
    )


def _fp16_norms(x: Tensor) -> Tensor:
    """Squared norms in the order of TensorFlow on a CPU, which rounds to fp16 at every addition.

    Halves of a row; in each four interleaved sums of eight lanes, joined in turn, then the lanes in
    fp32. Read off TensorFlow 2.21 by probing. Summed in another order, 273 of 2,000 samples changed
    sides in a test with a large mean.
    """
    squares = pad(x, (0, -x.shape[1] % 64)).square().view(len(x), 2, -1, 4, 8)
    sums = squares[:, :, 0]
    for step in range(1, squares.shape[2]):
        sums = sums + squares[:, :, step]
    lanes = ((sums[:, :, 0] + sums[:, :, 1]) + sums[:, :, 2]) + sums[:, :, 3]
    halves = lanes.float().sum(-1).half()
    return halves[:, 0] + halves[:, 1]


def precision_recall(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """Kynkaanniemi et al. 2019, k = 3, of features [N, D] and [M, D] in fp32.

    Distances do not depend on the origin: the mean goes first, or it would take digits from |a|^2 -
    2ab + |b|^2.
    """
    centre = real.mean(0)
    return _precision_recall(generated - centre, real - centre, squared_distances, 4000)


def precision_recall_fp16(generated: Tensor, real: Tensor) -> tuple[float, float]:
    """The same with ADM's fp16 distances and its blocks of 10,000; a little higher, for rounding makes ties."""
    return _precision_recall(generated, real, fp16_distances, 10_000)


def _precision_recall(
    generated: Tensor, real: Tensor, distances: Distances, block: int
) -> tuple[float, float]:
    """Each pair of sets is gone through once: 50,000 x 10,000 distances at a time would be 2 GB, here it is block^2."""
    if min(len(generated), len(real)) <= NEIGHBOURS:
        raise UserError(
            f"precision and recall of {len(generated)} samples by {len(real)} images: give 4 or more"
        )
    reach, real_reach = _reach(generated, distances, block), _reach(real, distances, block)
    inside, covered = (
        torch.zeros(len(generated), dtype=torch.bool),
        torch.zeros(len(real), dtype=torch.bool),
    )
    for i in range(0, len(real), block):
        for j in range(0, len(generated), block):
            rows, columns = slice(i, i + block), slice(j, j + block)
            apart = distances(real[rows], generated[columns])
            inside[columns] |= (apart <= real_reach[rows, None]).any(0)
            covered[rows] |= (apart <= reach[columns]).any(1)
    return float(inside.double().mean()), float(covered.double().mean())


def _reach(features: Tensor, distances: Distances, block: int) -> Tensor:
    """Squared distance of every row to its third nearest neighbour; the nearest of all is itself."""
    reach = []
    for rows in torch.split(features, block):
        blocks = (distances(rows, columns) for columns in torch.split(features, block))
        nearest = [
            apart.topk(min(NEIGHBOURS + 1, apart.shape[1]), largest=False).values
            for apart in blocks
        ]
        reach.append(torch.cat(nearest, 1).kthvalue(NEIGHBOURS + 1).values)
    return torch.cat(reach)


# Pairs and triples of values come from one computation; `values` empties these again. Tensors are
# hashed by identity.
_pair = lru_cache(maxsize=1)(precision_recall)
_pair_fp16 = lru_cache(maxsize=1)(precision_recall_fp16)


@lru_cache(maxsize=1)
def _infinity(pool: Tensor, reference: Reference) -> tuple[float, float, float]:
    return fid_infinity(pool, reference.mu, reference.sigma)


METRICS: dict[str, Callable[[Features, Reference], float]] = {
    "fid": fid,
    "sfid": sfid,
    "inception_score": lambda features, reference: inception_score(features["logits"]),
    "precision": lambda features, reference: _pair(features["pool"], reference.pool)[0],
    "recall": lambda features, reference: _pair(features["pool"], reference.pool)[1],
    "precision_fp16": lambda features, reference: _pair_fp16(features["pool"], reference.pool)[0],
    "recall_fp16": lambda features, reference: _pair_fp16(features["pool"], reference.pool)[1],
    "kid": lambda features, reference: kid(features["pool"], reference.pool),
    "fid_infinity": lambda features, reference: _infinity(features["pool"], reference)[0],
    "fid_infinity_low": lambda features, reference: _infinity(features["pool"], reference)[1],
    "fid_infinity_high": lambda features, reference: _infinity(features["pool"], reference)[2],
}
DEFAULT_METRICS = ("fid", "sfid", "inception_score", "precision", "recall")


def values(
    features: Features, reference: Reference, names: Iterable[str] = DEFAULT_METRICS
) -> dict[str, float]:
    """{name: value} of features {"pool", "spatial", "logits"}: fp32 [N, ...] against a reference.

    Raises:
        ValueError: an unknown name, features that are not finite, or a reference that lacks what a
        metric needs.
    """
    names = tuple(names)
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"no metric {', '.join(unknown)}: choose from {', '.join(METRICS)}")
    for layer, rows in features.items():
        if bad := int((~rows.isfinite().all(1)).sum()):
            raise UserError(
                f"{layer} features of {bad} in {len(rows)} images are not finite: look at those images"
            )
    try:
        return {name: METRICS[name](features, reference) for name in names}
    finally:
        for cached in (_pair, _pair_fp16, _infinity):
            cached.cache_clear()


def warnings(n: int, width: int) -> list[str]:
    """What must be said beside values of `n` samples and features of `width` numbers (2048 for Inception)."""
    singular = f"{n} samples for {width} features: the covariance is singular and FID compares with no other value"
    return [] if n > width else [singular]
