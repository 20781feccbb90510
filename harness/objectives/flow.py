"""Flow matching as in SiT: paths from data to noise, what is predicted of them, and the loss.

Ma et al. 2024, "SiT: Exploring Flow and Diffusion-based Generative Models with Scalable
Interpolant Transformers", sections 2 and 3. Time runs as in the paper: 0 is data, 1 is noise. The
network is given 1 - t, and predicts the velocity of that time, as the released code has it, so that
released checkpoints are runs of this objective.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.base import rng
from harness.objectives.broadcast import each
from harness.objectives.flow_samplers import ODES, sde

if TYPE_CHECKING:
    from harness.objectives.rows import Denoiser, Losses, Noise

CUT = 1e-3  # of both ends of time, where noise and score say nothing of the velocity


@dataclass(frozen=True)
class Point:
    """The path at times t: x_t = alpha · data + sigma · noise, with derivatives by t.

    All are of one shape, such as [N, 1, 1, 1].
    """

    alpha: Tensor
    sigma: Tensor
    d_alpha: Tensor
    d_sigma: Tensor

    @property
    def wronskian(self) -> Tensor:
        """alpha · sigma' - alpha' · sigma: above 0, since noise grows at the data's expense."""
        return self.alpha * self.d_sigma - self.d_alpha * self.sigma

    def noise(self, x: Tensor, velocity: Tensor) -> Tensor:
        """The noise in x that goes with a velocity."""
        return (self.alpha * velocity - self.d_alpha * x) / self.wronskian

    def velocity(self, x: Tensor, noise: Tensor) -> Tensor:
        """The velocity at x that goes with a noise; not at t = 1."""
        return (self.d_alpha * x + self.wronskian * noise) / self.alpha


def linear(t: Tensor) -> Point:
    one = torch.ones_like(t)
    return Point(1 - t, t, -one, one)


def gvp(t: Tensor) -> Point:
    """The variance-preserving path of a quarter circle."""
    half = math.pi / 2
    cos, sin = torch.cos(half * t), torch.sin(half * t)
    return Point(cos, sin, -half * sin, half * cos)


PATHS = {"linear": linear, "gvp": gvp}


@dataclass(frozen=True)
class Flow:
    """A path, what the network predicts of it, and how training draws times.

    path: linear or gvp; prediction: velocity, noise or score; weighted: noise and score by the
    factor that makes their loss that of the velocity; logit_normal: times as the logistic function
    of a standard normal, else uniform.
    """

    path: str = "linear"
    prediction: str = "velocity"
    weighted: bool = False
    logit_normal: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last time that is trained and sampled."""
        return (0.0, 1.0) if self.prediction == "velocity" else (CUT, 1 - CUT)

    def at(self, t: Tensor, x: Tensor) -> Point:
        """The path at times t [N], broadcast over x [N, C, …]."""
        return PATHS[self.path](each(t, x))

    def times(self, low: int, high: int, device: torch.device, *key: object) -> Tensor:
        if self.logit_normal:
            t = torch.sigmoid(rng.normal(low, high, (), device, "times", *key))
        else:
            t = rng.uniform(low, high, device, "times", *key)
        return self.between_ends(t)

    def quantiles(self, u: Tensor) -> Tensor:
        t = torch.sigmoid(torch.special.ndtri(u)) if self.logit_normal else u
        return self.between_ends(t.float())

    def noise_level(self, t: Tensor) -> Tensor:
        return 1 - t

    def between_ends(self, t: Tensor) -> Tensor:
        first, last = self.ends
        return first + (last - first) * t

    def losses(self, device: torch.device) -> Losses:
        return self.mse

    def mse(
        self, denoiser: Denoiser, x0: Tensor, t: Tensor, y: Tensor, noise: Tensor
    ) -> tuple[Tensor]:
        """Returns the mean squared error [N] of what is predicted.

        x0, noise: [N, C, …]; t: [N] in [0, 1]; y: [N].
        """
        point = self.at(t, x0)
        found = denoiser(point.alpha * x0 + point.sigma * noise, 1 - t, y).float()
        if self.prediction == "velocity":
            error = found + point.d_alpha * x0 + point.d_sigma * noise
        else:
            scale = point.sigma if self.prediction == "score" else -1.0
            error = scale * found + noise
            if self.weighted:
                error = error * (point.wronskian / point.alpha)
        return ((error**2).flatten(1).mean(dim=1),)

    def velocity(self, denoiser: Denoiser, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Returns dx / dt at x [N, C, …] and t [N], from one call of the network."""
        found = denoiser(x, 1 - t, y).float()
        if self.prediction == "velocity":
            return -found
        point = self.at(t, x)
        noise = found if self.prediction == "noise" else -point.sigma * found
        return point.velocity(x, noise)

    def sample(
        self, sampler: str, denoiser: Denoiser, x: Tensor, y: Tensor, steps: int, noise: Noise
    ) -> Tensor:
        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return self.velocity(denoiser, x, t, y)

        first, last = self.ends
        if sampler in ODES:
            return ODES[sampler](velocity, x, last, first, steps)
        return sde(sampler.removeprefix("sde-"), velocity, self.at, x, last, steps, noise)
