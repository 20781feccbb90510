"""DDPM: losses and samplers (paper, sections 3.1 and 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsInt

import numpy as np
import torch
from torch import Tensor

from harness.base import rng
from harness.objectives.betas import linear_schedule, respaced
from harness.objectives.broadcast import each
from harness.objectives.rows import TIMESTEPS

if TYPE_CHECKING:
    from harness.objectives.rows import Denoiser, Losses, Noise


def flat_mean(x: Tensor) -> Tensor:
    """Averages [N, ...] to [N]."""
    return x.flatten(1).mean(dim=1)


def discretized_nll(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns -log of the Gaussian's mass in the bin of x, all of one shape [N, C, …].

    Values in [-1, 1] stand for 256 levels; the end bins are open (Ho et al. 2020, equation 13).
    """
    scale = torch.exp(-0.5 * log_variance)

    def cdf(v: Tensor) -> Tensor:  # by tanh, as in the released code and so the paper's losses
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))

    above, below = cdf((x - mean + 1 / 255) * scale), cdf((x - mean - 1 / 255) * scale)
    mass = torch.where(x < -0.999, above, torch.where(x > 0.999, 1 - below, above - below))
    return -mass.clamp(min=1e-12).log()


def losses(
    denoiser: Denoiser, table: Tensor, x0: Tensor, t: Tensor, y: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns mse [N] and vb [N], in bits per dimension; the hybrid loss is their sum.

    The gradient of vb reaches the variance channels alone (Nichol & Dhariwal 2021, equation 16).
    x0, noise: [N, C, …], such as images [N, C, H, W]; t, y: [N]; table: Schedule.table().
    """
    root_a, root_rest, recip, recip_m1, of_x0, of_xt, low, high = (
        each(c, x0) for c in table[t].unbind(1)
    )
    xt = root_a * x0 + root_rest * noise
    predicted, v = denoiser(xt, t, y).float().chunk(2, dim=1)
    mse = flat_mean((noise - predicted) ** 2)
    log_variance = low + (v + 1) / 2 * (high - low)
    mean = of_x0 * (recip * xt - recip_m1 * predicted.detach()) + of_xt * xt
    apart = (of_x0 * x0 + of_xt * xt - mean) ** 2
    kl = 0.5 * (
        log_variance - low - 1 + torch.exp(low - log_variance) + apart * torch.exp(-log_variance)
    )
    first = each(t == 0, x0)
    bound = torch.where(first, discretized_nll(x0, mean, log_variance), kl)
    return mse, flat_mean(bound) / math.log(2)


def noise_loss(
    min_snr: float | None,
    denoiser: Denoiser,
    table: Tensor,
    x0: Tensor,
    t: Tensor,
    y: Tensor,
    noise: Tensor,
) -> Tensor:
    """Returns the mean squared error [N] of a network without variance channels.

    With `min_snr` the error of x_0 counts by at most that signal-to-noise ratio; in terms of the
    noise, by min(snr, min_snr) / snr (Hang et al. 2023, section 3.4).
    """
    root_a, root_rest = (each(c, x0) for c in table[t, :2].unbind(1))
    mse = flat_mean((noise - denoiser(root_a * x0 + root_rest * noise, t, y).float()) ** 2)
    if min_snr is None:
        return mse
    snr = (root_a / root_rest).flatten() ** 2
    return mse * snr.clamp(max=min_snr) / snr


def ddpm(
    denoiser: Denoiser, x: Tensor, y: Tensor, steps: int, noise: Noise, learned: bool = True
) -> Tensor:
    """Samples over `steps` respaced timesteps, without clipping.

    The variance is the learned one, or else that of the posterior. x: the starting noise
    [N, C, …]; y: labels [N]. Each step is one forward and two fused multiply-adds:
    mean = p · x - q · predicted noise, with p and q computed once.
    """
    schedule = respaced(linear_schedule(), steps)
    of_x0, of_xt = schedule.posterior_mean()
    p = of_xt + of_x0 * schedule.alphas_cumprod**-0.5
    q = of_x0 * np.sqrt(1 / schedule.alphas_cumprod - 1)
    # half of the log variance is linear in v: middle + v · spread
    low, high = schedule.posterior_log_variance, np.log(schedule.betas)
    middle, spread = (low + high) / 4, (high - low) / 4
    for k in range(steps - 1, -1, -1):
        found = denoiser(x, everywhere(x, schedule.timesteps[k]), y).float()
        predicted, v = found.chunk(2, dim=1) if learned else (found, None)
        x = torch.add(float(p[k]) * x, predicted, alpha=-float(q[k]))
        if k and v is not None:  # the last step adds no noise
            x.addcmul_(torch.exp(v * float(spread[k]) + float(middle[k])), noise(k))
        elif k:
            x.add_(noise(k), alpha=math.exp(low[k] / 2))
    return x


def with_scheduler(scheduler: Any, denoiser: Denoiser, x: Tensor, y: Tensor, steps: int) -> Tensor:
    """Samples by a deterministic diffusers scheduler, which is given the noise channels alone.

    Its timesteps stay on the CPU, where it looks them up: on a GPU each step would wait for one.
    """
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        predicted = denoiser(x, everywhere(x, t), y).float()[:, : x.shape[1]]
        x = scheduler.step(predicted, t, x).prev_sample
    return x


def everywhere(x: Tensor, t: SupportsInt) -> Tensor:
    """The timestep for each row of x: filled in on the device, since a copy would wait for it."""
    return torch.full((len(x),), int(t), device=x.device)


def diffusers_scheduler(sampler: str) -> Any:
    """Makes diffusers' scheduler of that name, on the paper's betas."""
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

    shared = {
        "num_train_timesteps": TIMESTEPS,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "beta_schedule": "linear",
    }
    if sampler == "ddim":
        # It steps down by 1000 // steps whatever the spacing: only with "trailing" a step ends
        # where the next one begins.
        return DDIMScheduler(
            **shared, clip_sample=False, set_alpha_to_one=True, timestep_spacing="trailing"
        )
    return DPMSolverMultistepScheduler(
        **shared, algorithm_type="dpmsolver++", timestep_spacing="linspace"
    )


@dataclass(frozen=True)
class DDPM:
    """Noise prediction on the paper's schedule.

    learned_variance: the second half of the channels is the variance, as in DiT; else the network
    has none. min_snr: the most that the signal-to-noise ratio counts in the loss (Hang et al.
    2023); only without a learned variance.
    """

    learned_variance: bool = True
    min_snr: float | None = None

    def times(self, low: int, high: int, device: torch.device, *key: object) -> Tensor:
        return rng.integers(low, high, TIMESTEPS, device, "timesteps", *key)

    def quantiles(self, u: Tensor) -> Tensor:
        return (u * TIMESTEPS).long().clamp(max=TIMESTEPS - 1)

    def noise_level(self, t: Tensor) -> Tensor:
        return t / TIMESTEPS

    def losses(self, device: torch.device) -> Losses:
        table = linear_schedule().table(device)

        def loss(denoiser: Denoiser, *batch: Tensor) -> tuple[Tensor, ...]:
            if self.learned_variance:
                return losses(denoiser, table, *batch)
            return (noise_loss(self.min_snr, denoiser, table, *batch),)

        return loss

    def sample(
        self, sampler: str, denoiser: Denoiser, x: Tensor, y: Tensor, steps: int, noise: Noise
    ) -> Tensor:
        if sampler == "ddpm":
            return ddpm(denoiser, x, y, steps, noise, self.learned_variance)
        return with_scheduler(diffusers_scheduler(sampler), denoiser, x, y, steps)
