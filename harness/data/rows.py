"""DATASETS: the shape of every dataset, a table of rows. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness.base.late import Late
from harness.data.origin import Origin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Data:
    """What a model of this dataset sees: [channels, size, size] of `classes` classes.

    frames: of a clip, [channels, frames, size, size]; None where samples are images;
    classes: 0 where there are no labels; images: how many the dataset's name stands for, None
    where any number will do; pixels: the side of an image, `size` where it is not given;
    autoencoder: the family of VAEs that makes latents of images, None of data that are pixels;
    mirrored: whether a mirrored image is as good as the image; open: opens the dataset by name and
    path, None where it is a folder that `harness encode` writes; held_out: how many images beside
    these the name stands for, that nothing is trained on; open_held_out: opens these, None where
    they are another folder.
    """

    channels: int
    size: int
    classes: int
    images: int | None = None
    pixels: int = 0
    autoencoder: str | None = None
    mirrored: bool = True
    open: Callable[[str, Path | None], Dataset] | None = None
    held_out: int | None = None
    open_held_out: Callable[[str, Path | None], Dataset] | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pixels", self.pixels or self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample."""
        return self.shaped(self.channels, self.size)

    def shaped(self, channels: int, side: int) -> tuple[int, ...]:
        """The shape of an image or clip with that many channels and pixels a side."""
        frames = (self.frames,) if self.frames else ()
        return channels, *frames, side, side

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape of what an extractor reads: of a decoded image or clip."""
        return self.shaped(self.colours, self.pixels)

    @property
    def latent(self) -> bool:
        """Whether a VAE stands between its images and what the model sees."""
        return self.autoencoder is not None

    @property
    def colours(self) -> int:
        """Channels of an image."""
        return 3 if self.latent else self.channels

    @property
    def validates(self) -> bool:
        """Whether it may have held-out images."""
        return self.encoded or self.open_held_out is not None

    @property
    def encoded(self) -> bool:
        """Whether it is a folder that `harness encode` writes."""
        return self.open is None


def embedded_digits(name: str, path: Path | None) -> Dataset:
    from harness.data.digits import Digits  # torch, which plans do without

    return Digits(name)


def held_out_digits(name: str, path: Path | None) -> Dataset:
    from harness.data.digits import Digits

    return Digits(name, held_out=True)


def embedded_shapes(name: str, path: Path | None) -> Dataset:
    from harness.data.memory import InMemory
    from harness.data.shapes import load

    return InMemory(*load())


def moving_digits(name: str, path: Path | None) -> Dataset:
    from harness.data.clips import MovingDigits

    return MovingDigits()


def held_out_moving_digits(name: str, path: Path | None) -> Dataset:
    from harness.data.clips import MovingDigits

    return MovingDigits(held_out=True)


def imagenet(pixels: int) -> Data:
    """ImageNet as latents of Stable Diffusion's VAE, an eighth of the side."""
    row = Data(4, pixels // 8, 1000, images=1_281_167, pixels=pixels, autoencoder="sd-v1")
    return replace(row, held_out=50_000)


def imagenet_pixels(pixels: int) -> Data:
    """ImageNet as it is seen by networks without a VAE, such as ADM's."""
    return Data(3, pixels, 1000, images=1_281_167)


def digits(size: int) -> Data:
    return Data(1, size, 10, images=1_797, mirrored=False, open=embedded_digits)


def split_digits(size: int) -> Data:
    return replace(digits(size), images=1_437, held_out=360, open_held_out=held_out_digits)


# A table: another dataset is another row.
DATASETS = {
    "imagenet256": imagenet(256),
    "imagenet512": imagenet(512),
    **{f"imagenet{side}-pixels": imagenet_pixels(side) for side in (64, 128, 256, 512)},
    "digits": digits(16),
    "digits8": digits(8),
    # Rows of their own: what a run was trained on is its `data`, and the two above are all digits.
    "digits-split": split_digits(16),
    "digits8-split": split_digits(8),
    "shapes": Data(3, 16, 8, images=10_000, open=embedded_shapes),
    "moving-digits": Data(
        1,
        12,
        10,
        images=1_437 * 256,
        mirrored=False,
        open=moving_digits,
        held_out=360 * 256,
        open_held_out=held_out_moving_digits,
        frames=8,
    ),
}
# References that need no file, by name: images [N, C, side, side] in [-1, 1], and labels.
EMBEDDED = {
    "digits": Late("harness.data.digits", "load"),
    "shapes": Late("harness.data.shapes", "load"),
    "moving-digits": Late("harness.data.clips", "load"),
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
        """Returns the samples `index` and their labels: fp32 [N, *shape] and [N], on the device.

        They fill the slots of a batch from `low` on: what is random in a sample is a function of
        its slot and of `key`.
        """
        ...
