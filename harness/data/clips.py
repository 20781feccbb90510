"""Moving digits: clips by formula, of every embedded digit on every path that the law allows."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.base.motion import FRAMES, PERIOD, REACH, SPEEDS, place
from harness.data.digits import Digits
from harness.data.origin import Origin

WAYS = (PERIOD * len(SPEEDS)) ** 2  # starts and speeds along both axes
STRIDE = 73  # of the reference's clips: they take turns in digit and way


class MovingDigits:
    """Clip i is digit i mod n on way i div n, [1, 8, 12, 12] in [-1, 1].

    The 8 × 8 digits move by whole pixels, so that nothing is blurred and ink is neither made nor
    lost. The held-out clips are of other digits, every fifth of the file.
    """

    def __init__(self, held_out: bool = False) -> None:
        digits = Digits("digits8-split", held_out)
        self.labels = digits.labels
        self.padded = torch.nn.functional.pad(digits.images[:, 0], [REACH] * 4, value=-1.0)
        self.origin = Origin(images=len(self), digest=f"moving, {digits.origin.digest}")

    def __len__(self) -> int:
        return len(self.labels) * WAYS

    def batch(
        self, index: Tensor, low: int, device: torch.device | str, *key: object
    ) -> tuple[Tensor, Tensor]:
        digit, way = index % len(self.labels), index // len(self.labels)
        return self.frames(digit, places(way)).to(device), self.labels[digit].to(device)

    def frames(self, digit: Tensor, corner: Tensor) -> Tensor:
        """Draws digits [N] with their boxes at corners [N, 2, F], row and column."""
        side = self.padded.shape[-1] - REACH
        line = torch.arange(side) + (REACH - corner)[..., None]  # [N, 2, F, side]
        rows, columns = line[:, 0, :, :, None], line[:, 1, :, None, :]
        return self.padded[digit[:, None, None, None], rows, columns][:, None]


def places(way: Tensor) -> Tensor:
    """Rows and columns of the box's corner, [N, 2, F], on the ways [N] of 0 … WAYS - 1."""
    axes = torch.stack([way // (PERIOD * len(SPEEDS)), way % (PERIOD * len(SPEEDS))], dim=1)
    speed = torch.tensor(SPEEDS)[axes // PERIOD]
    return place((axes % PERIOD)[..., None], speed[..., None], torch.arange(FRAMES))


def load(first: int = 0, held_out: bool = False) -> tuple[Tensor, Tensor]:
    """Every 73rd clip from `first` on: 5,040 of training, with their labels."""
    clips = MovingDigits(held_out)
    return clips.batch(torch.arange(first, len(clips), STRIDE), 0, "cpu")
