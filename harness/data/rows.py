"""DATASETS: the shape of every dataset, a table of rows. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.data.origin import Origin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Data:
    """What a model of this dataset sees: [channels, size, size] of `classes` classes."""

    channels: int
    size: int
    classes: int
    images: int
    pixels: int  # the side of a decoded image
    held_out: int = 0  # images beside them, that nothing is trained on

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return self.channels, self.size, self.size

    @property
    def latent(self) -> bool:
        """Whether a VAE stands between its images and what the model sees."""
        return self.pixels != self.size


# A table: another dataset is another row.
DATASETS = {
    "imagenet256": Data(4, 32, classes=1000, images=1_281_167, pixels=256, held_out=50_000),
    "imagenet512": Data(4, 64, classes=1000, images=1_281_167, pixels=512, held_out=50_000),
    "digits": Data(channels=1, size=16, classes=10, images=1_797, pixels=16),
    "digits8": Data(channels=1, size=8, classes=10, images=1_797, pixels=8),
    # Rows of their own: what a run was trained on is its `data`, and the two above are all digits.
    "digits-split": Data(channels=1, size=16, classes=10, images=1_437, pixels=16, held_out=360),
    "digits8-split": Data(channels=1, size=8, classes=10, images=1_437, pixels=8, held_out=360),
}


class Dataset(Protocol):
    """Training samples by index, the same for pixels and for latents."""

    @property
    def origin(self) -> Origin:
        """Which images these are."""
        ...

    def __len__(self) -> int: ...

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        """Returns the samples `index` and their labels: fp32 [N, C, H, W] and [N], on the device.

        They fill the slots of a batch from `low` on: what is random in a sample is a function of
        its slot and of `key`.
        """
        ...
