"""Classifier-free guidance, whatever the network predicts: constant or by the time of sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.objectives.broadcast import each
from harness.objectives.guidance_schedules import GuidanceSchedule

if TYPE_CHECKING:
    from harness.objectives.rows import Denoiser


def guided(
    denoiser: Denoiser,
    scale: float,
    channels: int,
    null: int,
    schedule: GuidanceSchedule | None = None,
    noise: Callable[[Tensor], Tensor] | None = None,
) -> Denoiser:
    """Adds classifier-free guidance on the first `channels` (paper, section 3.1).

    Both halves go through in one batch. The variance stays the conditional one, as in the released
    code. null: the label of no class; noise: of the network's times, how far they are to noise,
    which a schedule needs.
    """
    if scale == 1.0:
        return denoiser

    def both(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        strength: float | Tensor = scale
        if schedule and noise:
            part = share(schedule, noise(t))
            if not part.any():  # no image is guided at this time: one pass is enough
                return denoiser(x, t, y)
            strength = each(1 + (scale - 1) * part, x)
        cond, free = denoiser(
            torch.cat([x, x]), t.repeat(2), torch.cat([y, torch.full_like(y, null)])
        ).chunk(2)
        lead = free[:, :channels] + strength * (cond[:, :channels] - free[:, :channels])
        return torch.cat([lead, cond[:, channels:]], dim=1)

    return both


def share(schedule: GuidanceSchedule, t: Tensor) -> Tensor:
    """The share of the guidance, fp32 [N], at times t [N] from 0, data, to 1, noise."""
    if schedule.power is not None:
        return (1 - torch.cos(math.pi * (1 - t.float()) ** schedule.power)) / 2
    low, high = schedule.interval
    return ((t >= low) & ((t < high) | (high == 1))).float()  # 1 is pure noise, where flow begins
