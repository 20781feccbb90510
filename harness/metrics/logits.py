"""What an extractor's guesses of a class say: the Inception score, and accuracy by label."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision

# isort: split
from torch_fidelity.metric_isc import isc_features_to_metric

from harness.metrics.reference import Features, Reference
from harness.metrics.rows import Values

SPLIT = 5000  # images of one split of ADM's Inception score


def inception_score(features: Features, _: Reference) -> Values:
    """The Inception score of the samples alone (Salimans et al. 2016)."""
    return {"inception_score": score(features["logits"])}


def score(logits: Tensor) -> float:
    """Mean over consecutive splits of 5,000, as ADM takes them: a shorter last one counts as much.

    Images must come in random order of label: a split of few classes has a small score.
    """
    scores = [
        isc_features_to_metric(split, splits=1, shuffle=False)
        for split in torch.split(logits, SPLIT)
    ]
    return float(np.mean([score["inception_score_mean"] for score in scores]))


def label_accuracy(features: Features, _: Reference) -> Values:
    """Share of images whose largest logit is that of the label they were sampled for.

    Reads features["labels"], [N, 1]: only samples of our own have them.
    """
    recognised = features["logits"].argmax(1) == features["labels"][:, 0]
    return {"label_accuracy": float(recognised.double().mean())}
