"""Classifier-free guidance, whatever the network predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from harness.objectives.rows import Denoiser


def guided(denoiser: Denoiser, scale: float, channels: int, null: int) -> Denoiser:
    """Adds classifier-free guidance on the first `channels` (paper, section 3.1).

    Both halves go through in one batch. The variance stays the conditional one, as in the released
    code. null: the label of no class.
    """
    if scale == 1.0:
        return denoiser

    def both(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        cond, free = denoiser(
            x.repeat(2, 1, 1, 1), t.repeat(2), torch.cat([y, torch.full_like(y, null)])
        ).chunk(2)
        lead = free[:, :channels] + scale * (cond[:, :channels] - free[:, :channels])
        return torch.cat([lead, cond[:, channels:]], dim=1)

    return both
