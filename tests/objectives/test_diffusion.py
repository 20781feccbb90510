"""The diffusion against diffusers, against arithmetic written out, and against brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from helpers import apart
from torch import Tensor

from harness.objectives import ddpm as diffusion
from harness.objectives.betas import linear_schedule, respaced
from harness.objectives.guidance import guided

TABLE = linear_schedule().table("cpu")
SHAPE = (3, 4, 8, 8)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def denoiser(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """Some smooth network of 4 channels: noise, then variance between -1 and 1."""
    wave = torch.sin(x + t.view(-1, 1, 1, 1) / 300 + y.view(-1, 1, 1, 1))
    return torch.cat([0.7 * x + 0.3 * wave, torch.tanh(x.flip(1))], dim=1)


def noises(k: int) -> Tensor:
    return draw(*SHAPE, seed=k + 1)


@pytest.mark.parametrize("steps", [16, 50, 250])
def test_ddpm_is_that_of_diffusers(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.schedulers import scheduling_ddpm

    oracle: Any = DDPMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        timestep_spacing="linspace",
        variance_type="learned_range",
        clip_sample=False,
    )
    oracle.set_timesteps(steps)
    ours = respaced(linear_schedule(), steps)
    assert oracle.timesteps.tolist() == ours.timesteps[::-1].tolist()
    x, y = draw(*SHAPE), torch.arange(3)
    theirs = x
    for k, t in zip(range(steps - 1, -1, -1), oracle.timesteps, strict=True):
        monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *args, k=k, **kwargs: noises(k))
        theirs = oracle.step(denoiser(theirs, t.expand(3), y), t, theirs).prev_sample
    assert (
        apart(diffusion.DDPM().sample("ddpm", denoiser, x, y, steps, noises), theirs)
        < 4e-5 * theirs.abs().max()
    )


def test_without_a_learned_variance_it_is_that_of_diffusers_with_the_posteriors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from diffusers.schedulers import scheduling_ddpm

    steps, x, y = 50, draw(*SHAPE), torch.arange(3)
    oracle: Any = DDPMScheduler(
        beta_schedule="linear",
        beta_start=1e-4,
        beta_end=0.02,
        timestep_spacing="linspace",
        variance_type="fixed_small",
        clip_sample=False,
    )
    oracle.set_timesteps(steps)
    left = iter(range(steps - 1, 0, -1))
    monkeypatch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, **__: noises(next(left)))

    def plain(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return denoiser(x, t, y)[:, :4]

    theirs = x
    for t in oracle.timesteps:
        theirs = oracle.step(plain(theirs, t.expand(3), y), t, theirs).prev_sample
    ours = diffusion.DDPM(learned_variance=False).sample("ddpm", plain, x, y, steps, noises)
    assert apart(ours, theirs) < 1e-4


def test_min_snr_bounds_what_an_error_of_the_data_counts() -> None:
    """The weight of |x0 - x0'|² is snr for plain noise prediction, min(snr, 5) with the bound."""
    t, x0, noise = torch.arange(0, 1000, 37), draw(28, 4, 8, 8), draw(28, 4, 8, 8, seed=1)
    a = torch.from_numpy(linear_schedule().alphas_cumprod)[t]
    plain, bounded = (
        diffusion.DDPM(learned_variance=False, min_snr=bound).losses(torch.device("cpu"))(
            lambda x, t, y: 0 * x, x0, t, torch.zeros(28), noise
        )[0]
        for bound in (None, 5.0)
    )
    snr = (a / (1 - a)).float()
    assert torch.allclose(plain, (noise**2).flatten(1).mean(1))
    assert torch.allclose(bounded * snr, plain * snr.clamp(max=5), rtol=1e-4)


def test_250_steps_keep_those_of_the_released_code() -> None:
    kept = respaced(linear_schedule(), 250).timesteps.tolist()
    assert kept[:4] == [0, 4, 8, 12] and kept[-3:] == [991, 995, 999] and len(set(kept)) == 250


@pytest.mark.parametrize("steps", [1, 2, 16, 250, 1000])
def test_respacing_keeps_the_marginals(steps: int) -> None:
    whole = linear_schedule()
    part = respaced(whole, steps)
    assert len(part.betas) == len(set(part.timesteps.tolist())) == steps
    assert np.allclose(part.alphas_cumprod, whole.alphas_cumprod[part.timesteps], rtol=1e-12)


def test_the_schedule_is_linear() -> None:
    betas = linear_schedule().betas
    assert (
        betas[0] == 1e-4
        and betas[-1] == 0.02
        and len(betas) == 1000
        and np.allclose(np.diff(betas, 2), 0)
    )


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_every_sampler_finds_the_data_behind_a_perfect_denoiser(sampler: str) -> None:
    """Data that is one point c: the noise in x at t is (x - √ā c) / √(1 - ā), exactly."""
    bars = torch.from_numpy(linear_schedule().alphas_cumprod).float()
    c = draw(1, 4, 8, 8, seed=9)

    def perfect(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        bar = bars[t].view(-1, 1, 1, 1)
        return torch.cat([(x - bar.sqrt() * c) / (1 - bar).sqrt(), torch.zeros_like(x)], dim=1)

    out = diffusion.DDPM().sample(
        sampler, perfect, draw(*SHAPE), torch.zeros(3, dtype=torch.long), 20, noises
    )
    assert apart(out, c.expand(SHAPE)) < 0.02


@pytest.mark.parametrize("steps", [1, 2, 3, 500, 998, 999])
def test_dpm_solver_visits_no_timestep_twice(steps: int) -> None:
    """DPM-Solver++ divides by the distance of two: 1,000 steps visit one twice, and are refused."""
    scheduler = diffusion.diffusers_scheduler("dpm-solver++")
    scheduler.set_timesteps(steps)
    assert (scheduler.timesteps.diff() < 0).all() and len(scheduler.timesteps) == steps


def test_ddim_is_the_formula() -> None:
    """Each step lands on the noise level that the next one asks the network about."""
    steps, x, y = 10, draw(*SHAPE), torch.arange(3)
    kept = range(99, 1000, 100)
    bars = linear_schedule().alphas_cumprod
    expected = x
    for k in range(steps - 1, -1, -1):
        bar, before = bars[kept[k]], bars[kept[k - 1]] if k else 1.0
        noise = denoiser(expected, torch.full((3,), kept[k]), y)[:, :4]
        x0 = (expected - math.sqrt(1 - bar) * noise) / math.sqrt(bar)
        expected = math.sqrt(before) * x0 + math.sqrt(1 - before) * noise
    assert apart(diffusion.DDPM().sample("ddim", denoiser, x, y, steps, noises), expected) < 1e-4


def test_guidance_is_on_the_first_channels_and_the_variance_stays_conditional() -> None:
    x, t, y = draw(*SHAPE), torch.tensor([1, 500, 999]), torch.tensor([0, 1, 2])
    cond, free = denoiser(x, t, y), denoiser(x, t, torch.full_like(y, 1000))
    out = guided(denoiser, 1.5, 3, null=1000)(x, t, y)
    expected = cond.clone()
    for channel in range(3):
        expected[:, channel] = free[:, channel] + 1.5 * (cond[:, channel] - free[:, channel])
    assert apart(out, expected) < 1e-6
    assert torch.equal(out[:, 3:], cond[:, 3:]), "the fourth noise channel and the variance"
    assert apart(guided(denoiser, 1.5, 4, 1000)(x, t, y)[:, 3], cond[:, 3]) > 1e-3
    assert guided(denoiser, 1.0, 3, null=1000) is denoiser, "no guidance costs nothing"


def losses(t: Tensor, out: Tensor, x0: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    return diffusion.losses(lambda x, t, y: out, TABLE, x0, t, torch.zeros_like(t), noise)


def test_the_gradient_of_the_bound_reaches_the_variance_channels_alone() -> None:
    out = draw(3, 8, 8, 8, seed=3).requires_grad_()
    x0, noise = draw(*SHAPE, seed=4), draw(*SHAPE, seed=5)
    mse, vb = losses(torch.tensor([0, 1, 700]), out, x0, noise)
    (of_vb,) = torch.autograd.grad(vb.sum(), out, retain_graph=True)
    (of_mse,) = torch.autograd.grad(mse.sum(), out)
    assert not of_vb[:, :4].any() and all(row.any() for row in of_vb[:, 4:])
    assert of_mse[:, :4].any() and not of_mse[:, 4:].any()


@pytest.mark.parametrize("t", [1, 2, 300, 999])
def test_the_bound_is_the_divergence_of_the_two_gaussians(t: int) -> None:
    x0, noise, out = draw(*SHAPE, seed=4), draw(*SHAPE, seed=5), draw(3, 8, 8, 8, seed=6)
    _, vb = losses(torch.full((3,), t), out, x0, noise)
    betas, bars = linear_schedule().betas, linear_schedule().alphas_cumprod
    beta, bar, before = betas[t], bars[t], bars[t - 1]
    xt = (math.sqrt(bar) * x0 + math.sqrt(1 - bar) * noise).double()
    guess = (xt - math.sqrt(1 - bar) * out[:, :4]) / math.sqrt(bar)

    def mean(x: Tensor) -> Tensor:
        return (math.sqrt(before) * beta * x + math.sqrt(1 - beta) * (1 - before) * xt) / (1 - bar)

    true = beta * (1 - before) / (1 - bar)
    learned = torch.exp(
        (out[:, 4:].double() + 1) / 2 * (math.log(beta) - math.log(true)) + math.log(true)
    )
    p, q = (
        torch.distributions.Normal(mean(x), v)
        for x, v in ((x0.double(), torch.tensor(true).sqrt()), (guess, learned.sqrt()))
    )
    bits = torch.distributions.kl_divergence(p, q).flatten(1).mean(1) / math.log(2)
    assert torch.allclose(vb.double(), bits, rtol=2e-3, atol=1e-5)


def test_the_bound_at_0_is_the_mass_of_a_discretised_gaussian() -> None:
    """Integrated by brute force over every 8-bit bin; the tails belong to the outermost two."""
    pixels = torch.tensor([0, 1, 77, 128, 254, 255])
    x = pixels.double() / 127.5 - 1
    mean, deviation = torch.tensor([-1.02, -0.98, -0.4, 0.01, 0.99, 0.97]).double(), 0.02
    grid = torch.linspace(-4, 4, 1_600_001, dtype=torch.float64)
    density = torch.exp(-0.5 * ((grid - mean[:, None]) / deviation) ** 2) / (
        deviation * math.sqrt(2 * math.pi)
    )
    low = torch.where(pixels == 0, -math.inf, x - 1 / 255)[:, None]
    high = torch.where(pixels == 255, math.inf, x + 1 / 255)[:, None]
    mass = (density * ((grid > low) & (grid <= high))).sum(1) * (grid[1] - grid[0])
    ours = diffusion.discretized_nll(x.float(), mean.float(), torch.tensor(2 * math.log(deviation)))
    # the tanh form of the normal distribution, which the released code has, is off by up to 3e-4 of
    # mass
    assert torch.allclose(torch.exp(-ours.double()), mass, atol=1e-3)


def test_at_0_the_loss_reads_that_mass() -> None:
    x0, noise, out = (
        (draw(*SHAPE, seed=4) / 3).clamp(-1, 1),
        draw(*SHAPE, seed=5),
        draw(3, 8, 8, 8, seed=6),
    )
    _, vb = losses(torch.zeros(3, dtype=torch.long), out, x0, noise)
    betas, bar = linear_schedule().betas, 1 - 1e-4
    guess = (math.sqrt(bar) * x0 + math.sqrt(1 - bar) * (noise - out[:, :4])) / math.sqrt(bar)
    clipped = betas[1] * 1e-4 / (1 - linear_schedule().alphas_cumprod[1])  # that of t = 1 stands in
    log_variance = math.log(clipped) + (out[:, 4:] + 1) / 2 * (math.log(1e-4) - math.log(clipped))
    bits = diffusion.discretized_nll(x0, guess, log_variance).flatten(1).mean(1) / math.log(2)
    assert torch.allclose(vb, bits, rtol=1e-3)


def test_the_variance_at_its_ends_is_the_posteriors_and_beta() -> None:
    steps = 4
    schedule = respaced(linear_schedule(), steps)
    for v, log_variance in ((-1.0, schedule.posterior_log_variance), (1.0, np.log(schedule.betas))):

        def fixed(x: Tensor, t: Tensor, y: Tensor, v: float = v) -> Tensor:
            return torch.cat([torch.zeros_like(x), torch.full_like(x, v)], dim=1)

        x, y = torch.zeros(SHAPE), torch.zeros(3, dtype=torch.long)
        jump = diffusion.ddpm(fixed, x, y, steps, lambda k: noises(k) * (k == 1))
        of_x0, of_xt = schedule.posterior_mean()
        growth = of_xt[0] + of_x0[0] / math.sqrt(schedule.alphas_cumprod[0])
        assert apart(jump, noises(1) * growth * math.exp(log_variance[1] / 2)) < 1e-5
