"""Samplers of a velocity field: Euler, Heun, Dormand-Prince for each image, and the SDE."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.objectives.broadcast import each

if TYPE_CHECKING:
    from harness.objectives.flow import Point
    from harness.objectives.rows import Noise

Velocity = Callable[[Tensor, Tensor], Tensor]  # (x [N, C, …], t [N]) → dx / dt

LAST = 0.04  # the last step of the SDE, without noise (SiT, appendix)
TOLERANCE = 1e-5  # of an image's error a step: relative, and absolute by the root mean square


def euler(velocity: Velocity, x: Tensor, start: float, end: float, steps: int) -> Tensor:
    """Integrates from `start` to `end` in equal steps of one call."""
    h = (end - start) / steps
    for k in range(steps):
        x = torch.add(x, velocity(x, full(x, start + k * h)), alpha=h)
    return x


def heun(velocity: Velocity, x: Tensor, start: float, end: float, steps: int) -> Tensor:
    """Integrates by the trapezoidal rule with an Euler step as its guess: two calls a step."""
    h = (end - start) / steps
    for k in range(steps):
        first = velocity(x, full(x, start + k * h))
        second = velocity(torch.add(x, first, alpha=h), full(x, start + (k + 1) * h))
        x = torch.add(x, first + second, alpha=h / 2)
    return x


def full(x: Tensor, t: float) -> Tensor:
    """The time t for each row of x."""
    return torch.full((len(x),), t, dtype=torch.float32, device=x.device)


# Dormand & Prince 1980: stages, and what the weights of orders 5 and 4 differ by.
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def dopri5(velocity: Velocity, x: Tensor, start: float, end: float, steps: int) -> Tensor:
    """Integrates with steps that each image chooses for itself: none depends on its batch.

    Raises:
        UserError: an image needs more than `steps` steps.
    """
    t, h = full(x, start), full(x, (end - start) / 100)
    slope, done = velocity(x, t), 0
    while bool((t != end).any()):
        if done == steps:
            raise UserError(
                f"dopri5 did not reach the data in {steps} steps: ask for more sampling_steps"
            )
        done += 1
        h = torch.maximum(h, end - t)  # both are negative: the last step ends at `end`
        slopes, fresh = [slope], x
        for weights in STAGES:
            fresh = combined(x, h, slopes, weights)
            slopes.append(velocity(fresh, t + sum(weights) * h))
        allowed = TOLERANCE * (1 + torch.maximum(rms(x), rms(fresh)))
        error = rms(combined(torch.zeros_like(x), h, slopes, ERROR)) / allowed
        taken = error <= 1
        x = torch.where(each(taken, x), fresh, x)
        slope = torch.where(each(taken, x), slopes[-1], slope)
        t = torch.where(taken, torch.where(h == end - t, full(x, end), t + h), t)
        h = h * (0.9 * error.clamp(min=1e-10) ** -0.2).clamp(0.2, 5)
    return x


def combined(x: Tensor, h: Tensor, slopes: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """x + h · Σ weights · slopes, with a step h [N] of its own for each image."""
    total = sum((w * s for w, s in zip(weights, slopes, strict=True) if w), torch.zeros_like(x))
    return x + each(h, x) * total


def rms(x: Tensor) -> Tensor:
    """The root mean square of each image, [N]."""
    return x.flatten(1).square().mean(1).sqrt()


ODES = {"euler": euler, "heun": heun, "dopri5": dopri5}


def coefficient(form: str, point: Point, t: Tensor, step: float) -> Tensor:
    """The diffusion coefficient w of the paper: its noise is √w dW, and twice the released code's.

    sigma: 2 σ; sin2: 2 sin²(π t); kl: 2 λ, the bound on the divergence, with λ = σ (α σ' - α' σ) /
    α. At the start, where α is 0, α is taken a step later.
    """
    if form == "sigma":
        return 2 * point.sigma
    if form == "sin2":
        return 2 * each(torch.sin(math.pi * t).square(), point.sigma)
    return 2 * point.sigma * point.wronskian / point.alpha.clamp(min=step)


def sde(
    form: str,
    velocity: Velocity,
    at: Callable[[Tensor, Tensor], Point],
    x: Tensor,
    start: float,
    steps: int,
    noise: Noise,
) -> Tensor:
    """Samples the reverse SDE by Euler-Maruyama, and its mean over the last 0.04 of time.

    One call of the network a step gives velocity and score.
    """
    h = (start - LAST) / max(1, steps - 1)
    for k in range(steps - 1, -1, -1):
        time = LAST + k * h if steps > 1 else start
        t = full(x, time)
        point, v = at(t, x), velocity(x, t)
        w = coefficient(form, point, t, h)
        score = -point.noise(x, v) / point.sigma
        drift = v - w / 2 * score
        if k == 0:
            return x - time * drift
        x = x - h * drift + (w * h).sqrt() * noise(k)
    return x
