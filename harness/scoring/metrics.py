"""From features to values: FID, sFID, Inception score, precision, recall, KID, FID∞; maths only."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision
from harness.base.errors import UserError
from harness.base.npz import Array

# isort: split
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from harness.scoring.features import Features
from harness.scoring.neighbours import precision_recall
from harness.scoring.parity import precision_recall_fp16
from harness.scoring.reference import Reference, moments

SPLIT = 5000  # images of one split of ADM's Inception score
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


def fid(features: Features, reference: Reference) -> float:
    """Fréchet distance of the pooled layer to the reference's statistics, not to its images."""
    own = moments(features["pool"])
    return frechet_distance(own.mean, own.sigma, reference.mu, reference.sigma)


def sfid(features: Features, reference: Reference) -> float:
    """Fréchet distance of the spatial layer (Nash et al. 2021)."""
    own = moments(features["spatial"])
    return frechet_distance(own.mean, own.sigma, reference.mu_s, reference.sigma_s)


def inception_score(logits: Tensor) -> float:
    """Mean over consecutive splits of 5,000, as ADM takes them: a shorter last one counts as much.

    Images must come in random order of label: a split of few classes has a small score.
    """
    scores = [
        isc_features_to_metric(split, splits=1, shuffle=False)
        for split in torch.split(logits, SPLIT)
    ]
    return float(np.mean([score["inception_score_mean"] for score in scores]))


def kid(generated: Tensor, real: Tensor) -> float:
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


Values = dict[str, float]


def neighbours(features: Features, reference: Reference) -> Values:
    precision, recall = precision_recall(features["pool"], reference.pool)
    return {"precision": precision, "recall": recall}


def neighbours_fp16(features: Features, reference: Reference) -> Values:
    precision, recall = precision_recall_fp16(features["pool"], reference.pool)
    return {"precision_fp16": precision, "recall_fp16": recall}


def infinity(features: Features, reference: Reference) -> Values:
    value, low, high = fid_infinity(features["pool"], reference.mu, reference.sigma)
    return {"fid_infinity": value, "fid_infinity_low": low, "fid_infinity_high": high}


def label_accuracy(features: Features) -> float:
    """Share of images whose largest logit is that of the label they were sampled for.

    Reads features["labels"], [N, 1]: only samples of our own have them.
    """
    recognised = features["logits"].argmax(1) == features["labels"][:, 0]
    return float(recognised.double().mean())


# A row gives all the values of one computation; every value has its own name for that row.
METRICS: dict[str, Callable[[Features, Reference], Values]] = {
    "fid": lambda features, reference: {"fid": fid(features, reference)},
    "sfid": lambda features, reference: {"sfid": sfid(features, reference)},
    "inception_score": lambda features, _: {"inception_score": inception_score(features["logits"])},
    "precision": neighbours,
    "recall": neighbours,
    "precision_fp16": neighbours_fp16,
    "recall_fp16": neighbours_fp16,
    "kid": lambda features, reference: {"kid": kid(features["pool"], reference.pool)},
    "fid_infinity": infinity,
    "fid_infinity_low": infinity,
    "fid_infinity_high": infinity,
    "label_accuracy": lambda features, _: {"label_accuracy": label_accuracy(features)},
}
DEFAULT_METRICS = ("fid", "sfid", "inception_score", "precision", "recall")


def values(
    features: Features, reference: Reference, names: Iterable[str] = DEFAULT_METRICS
) -> Values:
    """{name: value} of features {"pool", "spatial", "logits"}: fp32 [N, …] against a reference.

    Raises:
        UserError: an unknown name, features or values that are not finite, or a reference that
        lacks what a metric needs.
    """
    names = tuple(names)
    if unknown := [name for name in names if name not in METRICS]:
        raise UserError(f"no metric {', '.join(unknown)}: choose from {', '.join(METRICS)}")
    for layer, rows in features.items():
        if bad := int((~rows.isfinite().all(1)).sum()):
            raise UserError(
                f"{layer} features of {bad} in {len(rows)} images are not finite: look at those"
                " images"
            )
    found: Values = {}
    for name in names:
        if name not in found:
            found |= METRICS[name](features, reference)
    if wrong := [f"{name} = {found[name]}" for name in names if not math.isfinite(found[name])]:
        raise UserError(
            f"{', '.join(wrong)} of {len(features['pool'])} images by {reference.name}: look at"
            " the numbers of both"
        )
    return {name: found[name] for name in names}


def warnings(n: int, width: int) -> list[str]:
    """Warnings beside values of `n` samples and `width` features (2048 for Inception)."""
    if n > width:
        return []
    return [
        f"{n} samples for {width} features: the covariance is singular and FID compares with no"
        " other value"
    ]
