"""OBJECTIVES: what a network predicts, and so how it is trained and sampled: rows. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from harness.base.late import Late

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    # (x [N, C, …], t [N], y [N]) → [N, outputs · C, …]; images are [N, C, H, W]
    Denoiser = Callable[[Tensor, Tensor, Tensor], Tensor]
    Noise = Callable[[int], Tensor]  # the normal noise of sampling step k, [N, C, …]
    # (denoiser, x0, t, y, noise) → the terms of the loss, [N] each; their sum is the loss
    Losses = Callable[[Denoiser, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]


class Process(Protocol):
    """An objective at work; needs torch."""

    def times(self, low: int, high: int, device: torch.device, *key: object) -> Tensor:
        """Draws the times [high - low] of the slots low … high of a batch."""

    def quantiles(self, u: Tensor) -> Tensor:
        """The times [N] below which the shares u [N], in float64, of times() lie."""

    def noise_level(self, t: Tensor) -> Tensor:
        """How far to noise, from 0 to 1, the times [N] are that a network is given."""

    def losses(self, device: torch.device) -> Losses:
        """Prepares the losses for a device."""

    def sample(
        self, sampler: str, denoiser: Denoiser, x: Tensor, y: Tensor, steps: int, noise: Noise
    ) -> Tensor:
        """Samples data [N, C, …] from starting noise x."""


@dataclass(frozen=True)
class Objective:
    """One row.

    outputs: channels that the network gives for each channel of the data; terms: the parts of the
    loss, columns of the log; samplers: those it can be sampled by; build: makes its Process, given
    `settings`.
    """

    outputs: int
    terms: tuple[str, ...]
    samplers: tuple[str, ...]
    build: Callable[..., Process]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def process(self) -> Process:
        return self.build(**self.settings)


# Calls of the network in one step of a sampler.
SAMPLERS = {
    "ddpm": 1,
    "ddim": 1,
    "dpm-solver++": 1,
    "euler": 1,
    "heun": 2,
    "dopri5": 6,  # sampling_steps are the most that an image may take
    "sde-sigma": 1,
    "sde-sin2": 1,
    "sde-kl": 1,
}
TIMESTEPS = 1000  # the length of DDPM's training diffusion (paper, section 4)
DDPM_SAMPLERS = ("ddpm", "ddim", "dpm-solver++")
FLOW_SAMPLERS = tuple(name for name in SAMPLERS if name not in DDPM_SAMPLERS)


def ddpm(outputs: int, terms: tuple[str, ...], **settings: Any) -> Objective:
    return Objective(
        outputs, terms, DDPM_SAMPLERS, Late("harness.objectives.ddpm", "DDPM"), settings
    )


def flow(**settings: Any) -> Objective:
    return Objective(1, ("mse",), FLOW_SAMPLERS, Late("harness.objectives.flow", "Flow"), settings)


OBJECTIVES = {
    "ddpm": ddpm(2, ("mse", "vb")),  # DiT's: noise and a learned variance
    "ddpm-fixed": ddpm(1, ("mse",), learned_variance=False),
    "ddpm-min-snr": ddpm(1, ("mse",), learned_variance=False, min_snr=5.0),
    "flow": flow(),  # SiT's: the velocity of the linear path, times uniform
    "flow-logit-normal": flow(logit_normal=True),
    "flow-noise": flow(prediction="noise"),
    "flow-noise-weighted": flow(prediction="noise", weighted=True),
    "flow-score": flow(prediction="score"),
    "flow-score-weighted": flow(prediction="score", weighted=True),
    "flow-gvp": flow(path="gvp"),
    "flow-gvp-noise": flow(path="gvp", prediction="noise"),
    "flow-gvp-score": flow(path="gvp", prediction="score"),
}
