"""Flow matching against the one case that is known exactly: data that are normal, N(0, a²)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.objectives import OBJECTIVES, SAMPLERS
from harness.objectives.flow import Flow
from harness.objectives.flow_samplers import ODES

A = 0.5  # the standard deviation of the data
FLOWS = {name: row for name, row in OBJECTIVES.items() if name.startswith("flow")}
LABELS = torch.zeros(64, dtype=torch.long)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def made(name: str) -> Flow:
    process = FLOWS[name].process()
    assert isinstance(process, Flow)
    return process


class Exact:
    """The network that minimises the loss of an objective on N(0, a²); counts its calls."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.calls = flow, 0

    def __call__(self, x: Tensor, released_time: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        point = self.flow.at(1 - released_time, x)
        variance = (A * point.alpha) ** 2 + point.sigma**2
        noise = point.sigma / variance * x
        if self.flow.prediction == "noise":
            return noise
        if self.flow.prediction == "score":
            return -x / variance
        return -(A**2 * point.alpha * point.d_alpha + point.sigma * point.d_sigma) / variance * x


def error(name: str, sampler: str, steps: int) -> float:
    """The relative error of samples: an ODE maps a start z to a · z."""
    flow, start = made(name), draw(64, 1, 4, 4)
    x = flow.sample(sampler, Exact(flow), start, LABELS, steps, lambda k: draw(64, 1, 4, 4, seed=k))
    return float((x / start / A - 1).abs().max())


def test_the_linear_velocity_of_normal_data_is_that_of_the_released_code() -> None:
    """In its time, t = 0 is noise: v = (t a² - (1 - t)) x / (t² a² + (1 - t)²)."""
    x, t = draw(5, 1, 2, 2), torch.linspace(0, 1, 5)
    s = t.view(-1, 1, 1, 1)
    expected = (s * A**2 - (1 - s)) * x / (s**2 * A**2 + (1 - s) ** 2)
    assert torch.allclose(Exact(made("flow"))(x, t, LABELS[:5]), expected, atol=1e-6)


@pytest.mark.parametrize("name", FLOWS)
def test_no_network_does_better_than_the_exact_one(name: str) -> None:
    """Scaled by 3 % either way its loss grows, by as much as a square does."""
    flow = made(name)
    t = flow.times(0, 4096, torch.device("cpu"), 1)
    x0, noise = A * draw(4096, 1, 4, 4), draw(4096, 1, 4, 4, seed=1)
    y, exact = torch.zeros(4096, dtype=torch.long), Exact(flow)

    def loss(factor: float) -> float:
        (mse,) = flow.losses(t.device)(lambda *at: factor * exact(*at), x0, t, y, noise)
        return float(mse.double().mean())

    assert loss(1.0) < min(loss(0.97), loss(1.03))


@pytest.mark.parametrize("name", FLOWS)
def test_times_are_within_the_ends_and_depend_on_the_slot_alone(name: str) -> None:
    flow, device = made(name), torch.device("cpu")
    t, (first, last) = flow.times(0, 2000, device, 0, 7), flow.ends
    assert t.shape == (2000,) and first <= t.min() < 0.05 and 0.95 < t.max() <= last
    assert abs(t.mean() - 0.5) < 0.02
    assert torch.equal(flow.times(1990, 2000, device, 0, 7), t[1990:])
    if flow.logit_normal:
        assert abs(torch.logit(t).std() - 1) < 0.05


@pytest.mark.parametrize("name", FLOWS)
def test_every_prediction_gives_the_same_velocity(name: str) -> None:
    flow, x = made(name), draw(5, 1, 2, 2)
    t = torch.linspace(0.05, 0.95, 5)
    plain = replace(flow, prediction="velocity")
    expected = plain.velocity(Exact(plain), x, t, LABELS[:5])
    assert torch.allclose(flow.velocity(Exact(flow), x, t, LABELS[:5]), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["flow", "flow-gvp"])
def test_the_odes_reach_the_data_at_the_rate_of_their_order(name: str) -> None:
    euler, heun = ([error(name, sampler, n) for n in (32, 64)] for sampler in ("euler", "heun"))
    assert 1.7 < euler[0] / euler[1] < 2.3 and 3.2 < heun[0] / heun[1] < 4.8
    assert euler[1] < 0.05 and heun[1] < 2e-3 and error(name, "dopri5", 100) < 1e-4


@pytest.mark.parametrize("name", ["flow-noise", "flow-score", "flow-gvp-noise"])
def test_noise_and_score_are_sampled_between_their_ends(name: str) -> None:
    assert error(name, "heun", 64) < 5e-3


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s.startswith("sde")])
@pytest.mark.parametrize("name", ["flow", "flow-gvp", "flow-noise"])
def test_the_sde_has_the_deviation_of_the_data(name: str, sampler: str) -> None:
    """For any diffusion coefficient; that of its last step's mean is a little less."""
    flow, exact, n = made(name), Exact(made(name)), 4096
    x = flow.sample(
        sampler,
        exact,
        draw(n, 1, 2, 2),
        torch.zeros(n, dtype=torch.long),
        250,
        lambda k: draw(n, 1, 2, 2, seed=k + 1),
    )
    assert exact.calls == 250, "one call of the network a step"
    assert abs(float(x.std()) / A - 1) < 0.03 and abs(float(x.mean())) < 0.02
    kurtosis = float((x**4).mean() / (x**2).mean() ** 2)
    assert abs(kurtosis - 3) < 0.15


@pytest.mark.parametrize("sampler", ODES)
def test_no_image_depends_on_its_batch(sampler: str) -> None:
    flow, start = (
        made("flow"),
        draw(6, 1, 4, 4) * torch.tensor([0.1, 1, 1, 3, 10, 1]).view(6, 1, 1, 1),
    )

    def curved(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return torch.sin(3 * x) - x + t.view(-1, 1, 1, 1)

    whole, alone = (
        torch.cat(
            [
                flow.sample(sampler, curved, part, LABELS[: len(part)], 400, lambda k: start)
                for part in start.split(size)
            ]
        )
        for size in (6, 1)
    )
    assert torch.equal(whole, alone)


@pytest.mark.parametrize(("sampler", "calls"), [(s, n) for s, n in SAMPLERS.items() if s in ODES])
def test_a_step_calls_the_network_as_often_as_the_plan_counts(sampler: str, calls: int) -> None:
    flow = made("flow")
    exact = Exact(flow)
    flow.sample(sampler, exact, draw(1, 1, 2, 2), LABELS[:1], 50, lambda k: draw(1))
    assert exact.calls == 50 * calls if sampler != "dopri5" else exact.calls % 6 == 1


def test_too_few_steps_for_the_tolerance_are_refused() -> None:
    with pytest.raises(ValueError, match="dopri5 did not reach the data in 3 steps: ask for more"):
        error("flow", "dopri5", 3)


def test_the_diffusion_coefficient_is_twice_that_of_the_released_code() -> None:
    from harness.objectives.flow_samplers import coefficient

    t = torch.tensor([0.25])
    point = made("flow").at(t, torch.zeros(1, 1, 1, 1))
    released = {"sigma": 0.25, "sin2": math.sin(math.pi / 4) ** 2, "kl": 0.25 / 0.75}
    for form, w in released.items():
        assert float(coefficient(form, point, t, 0.01)) == pytest.approx(2 * w)
