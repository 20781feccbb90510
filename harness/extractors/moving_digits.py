"""What clips of moving digits show: how they move, which digit each frame has, where its ink is."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.base.motion import FRAMES, REACH
from harness.extractors.digits_cnn import DigitsCNN

FROZEN = Path(__file__).with_name("moving_digits_1.safetensors")
BOX = 8  # pixels of a digit's side
INK = 64  # grey level from which on a pixel is ink


class MotionCNN(nn.Module):
    """Three 3-D convolutions on clips [N, 1, 8, 12, 12] in [-1, 1], and 64 features.

    Trained to tell the digit, and its place in each frame, of lawful and of lawless motion.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 8, 3, stride=(1, 2, 2), padding=1)
        self.conv2 = nn.Conv3d(8, 16, 3, stride=2, padding=1)
        self.conv3 = nn.Conv3d(16, 16, 3, stride=2, padding=1)
        self.pool = nn.Linear(16 * 2 * 2 * 2, 64)
        self.digit = nn.Linear(64, 10)
        self.place = nn.Linear(64, 2 * FRAMES * (REACH + 1))

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns features [N, 64], logits of digits [N, 10] and of places [N, 2, F, 5]."""
        early = self.conv2(self.conv1(clips).relu()).relu()
        pool = self.pool(self.conv3(early).relu().flatten(1)).relu()
        return pool, self.digit(pool), self.place(pool).unflatten(1, (2, FRAMES, -1))


def centres(clips: Tensor) -> Tensor:
    """Centres of the ink in pixels, [N, F, 2], row and column; the middle where there is none."""
    ink = (clips[:, 0].float() - INK).clamp(min=0)
    side = ink.shape[-1]
    line = torch.arange(side, dtype=ink.dtype, device=ink.device)
    mass = ink.sum((2, 3))
    found = torch.stack([(ink.sum(3) * line).sum(2), (ink.sum(2) * line).sum(2)], dim=-1)
    found = found / mass.clamp(min=1)[..., None]
    return torch.where(mass[..., None] > 0, found, (side - 1) / 2)


def middles(clips: Tensor) -> Tensor:
    """The middle of the ink's extent in each frame, [N, F, 2], row and column.

    It finds a digit's box better than the centre does: digits-cnn-1 knows 99 % of what is cut out
    around it, and 86 % of what is cut out around the centre.
    """
    ink = clips[:, 0] > INK
    line = torch.arange(ink.shape[-1], device=clips.device)
    found = []
    for hit in (ink.any(3), ink.any(2)):
        first, last = hit.int().argmax(2), (hit * line).amax(2)
        found.append((first + last) / 2)
    return torch.stack(found, dim=-1)


def boxes(clips: Tensor) -> Tensor:
    """Cuts the 8 × 8 boxes around the ink out of uint8 clips, [N · F, 1, 8, 8]."""
    padded = F.pad(clips[:, 0], [BOX] * 4)
    start = (middles(clips) + BOX - (BOX - 1) / 2).round().long()  # of the box, in the padded frame
    line = torch.arange(BOX, device=clips.device)
    rows, columns = (start[..., axis, None] + line for axis in (0, 1))
    n, frame = (torch.arange(size, device=clips.device) for size in clips.shape[::2][:2])
    cut = padded[
        n[:, None, None, None],
        frame[None, :, None, None],
        rows[..., :, None],
        columns[..., None, :],
    ]
    return cut.flatten(0, 1)[:, None]


class MovingDigits(nn.Module):
    """uint8 clips [N, 1, 8, 12, 12] → pool, logits, frames and track, as the row has them.

    pool: of MotionCNN; logits: the mean over frames of digits-cnn-1's; frames: its 64 features of
    each frame, of the digit's box alone: what is seen and not where; track: the centre of the ink
    in each frame, row and column.
    """

    def __init__(self) -> None:
        super().__init__()
        self.motion = MotionCNN()
        self.frames = DigitsCNN("digits-cnn-1", ["pool", "logits"], weights=None)

    def forward(self, clips: Tensor) -> tuple[Tensor, ...]:
        pool, _, _ = self.motion((clips.float() - 128) / 128)
        frames, guesses = (x.unflatten(0, (len(clips), -1)) for x in self.frames(boxes(clips)))
        return pool, guesses.mean(1), frames.flatten(1), centres(clips).flatten(1)


LAYERS = {"pool": 64, "logits": 10, "frames": 64 * FRAMES, "track": 2 * FRAMES}


def build(path: Path | None) -> MovingDigits:
    """The networks with the weights of a file; None: random ones."""
    network = MovingDigits()
    if path is not None:
        network.load_state_dict(load_file(path))
    return network
