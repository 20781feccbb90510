"""A dataset in memory: every sample as it is, nothing drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.data.origin import Origin


class InMemory:
    """Samples [N, C, …] in [-1, 1] and labels [N]; `digest` says which ones."""

    def __init__(self, images: Tensor, labels: Tensor, digest: str = "embedded") -> None:
        self.images, self.labels = images, labels
        self.origin = Origin(images=len(labels), digest=digest)

    def __len__(self) -> int:
        return len(self.labels)

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        return self.images[index].to(device), self.labels[index].to(device)
