"""The embedded dataset: scikit-learn's 1,797 real digits, 8 × 8, or enlarged to 16 × 16."""

from __future__ import annotations

from importlib import resources

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.data.memory import InMemory
from harness.data.rows import DATASETS


def load(name: str = "digits") -> tuple[Tensor, Tensor]:
    """Loads images [1797, 1, size, size] in [-1, 1] and labels [1797].

    The originals are 8 × 8: "digits8" has them as they are, "digits" enlarged bilinearly.
    """
    with (
        (resources.files("harness.data") / "digits.npz").open("rb") as file,
        np.load(file) as stored,
    ):
        originals, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
    side = DATASETS[name].size
    images = F.interpolate(originals[:, None].float() / 8 - 1, size=(side, side), mode="bilinear")
    return images, labels.long()


class Digits(InMemory):
    """The digits, in memory. Nothing in a sample is random: a mirrored 2 is no digit.

    Of a split dataset every fifth is held out: both parts come from all along the file, whose
    order may be that of its writers.
    """

    def __init__(self, name: str = "digits", held_out: bool = False) -> None:
        (images, labels), digest = load(name), "embedded"
        if DATASETS[name].open_held_out:
            chosen = (torch.arange(len(labels)) % 5 == 0) == held_out
            images, labels = images[chosen], labels[chosen]
            digest = f"embedded, {'every fifth' if held_out else 'without every fifth'}"
        super().__init__(images, labels, digest)
