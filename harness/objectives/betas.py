"""DDPM's schedule: betas, what follows from them, and fewer of their timesteps for sampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from harness.objectives.rows import TIMESTEPS


@dataclass(frozen=True)
class Schedule:
    """Betas and the original timesteps they belong to.

    In float64: float32 would cost the late steps digits.
    """

    betas: np.ndarray
    timesteps: np.ndarray

    @cached_property
    def alphas_cumprod(self) -> np.ndarray:
        return np.cumprod(1 - self.betas)

    @cached_property
    def before(self) -> np.ndarray:
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def posterior_log_variance(self) -> np.ndarray:
        """log of the variance of q(x_{t-1} | x_t, x_0).

        At t = 0, where the variance is 0, that of t = 1 stands in.
        """
        variance = self.betas * (1 - self.before) / (1 - self.alphas_cumprod)
        variance[0] = variance[1] if len(variance) > 1 else self.betas[0]
        return np.log(variance)

    def posterior_mean(self) -> tuple[np.ndarray, np.ndarray]:
        """The factors of x_0 and x_t in the mean of q(x_{t-1} | x_t, x_0).

        Ho et al. 2020, equation 7.
        """
        rest = 1 - self.alphas_cumprod
        of_x0 = self.betas * np.sqrt(self.before) / rest
        of_xt = (1 - self.before) * np.sqrt(1 - self.betas) / rest
        return of_x0, of_xt

    def table(self, device: torch.device | str) -> Tensor:
        """Returns what the loss reads of each timestep, [T, 8] in fp32: one gather, not eight."""
        of_x0, of_xt = self.posterior_mean()
        a = self.alphas_cumprod
        columns = (a**0.5, (1 - a) ** 0.5, a**-0.5, (1 / a - 1) ** 0.5, of_x0, of_xt)
        stack = np.stack([*columns, self.posterior_log_variance, np.log(self.betas)], axis=1)
        return torch.from_numpy(stack).float().to(device)


def linear_schedule() -> Schedule:
    """Returns the paper's schedule: T = 1000 betas, evenly from 1e-4 to 0.02."""
    return Schedule(np.linspace(1e-4, 0.02, TIMESTEPS), np.arange(TIMESTEPS))


def respaced(schedule: Schedule, steps: int) -> Schedule:
    """Keeps `steps` of the timesteps, both ends among them, and recomputes the betas.

    Nichol & Dhariwal 2021, section 4.
    """
    total = len(schedule.betas)
    stride = (total - 1) / (steps - 1) if steps > 1 else 1.0
    # The stride is added up, as in the released code: at halves, products round the other way.
    kept = np.cumsum([0.0] + [stride] * (steps - 1)).round().astype(int)
    bars = schedule.alphas_cumprod[kept]
    return Schedule(1 - bars / np.append(1.0, bars[:-1]), schedule.timesteps[kept])
