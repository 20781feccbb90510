"""Guidance by the time of sampling: its formula, its cost, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers import apart, tiny_protocol, tiny_run, tiny_sweep
from torch import Tensor

from harness.objectives import OBJECTIVES
from harness.objectives.guidance import guided, share
from harness.objectives.guidance_schedules import GuidanceSchedule, read_guidance
from harness.scoring.sample import sample
from harness.spec import Protocol
from harness.study.compute import network

CPU = torch.device("cpu")
TIMES = torch.tensor([0.0, 0.25, 0.5, 0.999])


def denoiser(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return x * (1 + y.view(-1, 1, 1, 1))


def strengths(text: str, scale: float, times: Tensor = TIMES) -> list[float]:
    """What guidance of y = 0 against the label 4 makes of x = 1: 5 - 4 w."""
    schedule, seen = read_guidance(text), torch.ones(len(times), 1, 1, 1)
    y = torch.zeros(len(times), dtype=torch.long)
    out = guided(denoiser, scale, 1, 4, schedule, lambda t: t)(seen, times, y)
    return ((5 - out.flatten()) / 4).tolist()


def test_an_interval_guides_between_its_times_alone() -> None:
    assert strengths("interval-0.25-0.5", 3.0) == [1, 3, 1, 1]
    assert strengths("interval-0-1", 3.0) == [3, 3, 3, 3]


def test_power_cosine_grows_from_none_at_noise_to_all_at_data() -> None:
    found = strengths("power-cosine-4", 3.8)
    exact = [1 + 2.8 * (1 - math.cos(math.pi * (1 - t) ** 4)) / 2 for t in TIMES.tolist()]
    assert found == pytest.approx(exact, rel=1e-5)
    assert found[0] == pytest.approx(3.8) and found[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("objective", "data", "noise"), [("ddpm", 0, 999), ("flow", 1.0, 0.0)])
def test_times_of_a_network_run_from_data_to_noise(
    objective: str, data: float, noise: float
) -> None:
    """Flow networks are given 1 - t."""
    process = OBJECTIVES[objective].process()
    found = process.noise_level(torch.tensor([data, noise]))
    assert found.tolist() == pytest.approx([0, 1], abs=1e-3)


@pytest.mark.parametrize(("objective", "sampler"), [("ddpm", "ddpm"), ("flow", "euler")])
def test_outside_its_interval_the_network_runs_once(objective: str, sampler: str) -> None:
    run, seen = tiny_run(objective=objective), list[int]()
    torch.manual_seed(0)
    net = network(run).eval()
    for p in net.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    net.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    fields: dict[str, Any] = {"sampler": sampler, "sampling_steps": 10, "images": 4}
    images = {}
    for text in (None, "interval-0-1", "interval-0.3-0.7", "power-cosine-2"):
        seen.clear()
        protocol = tiny_protocol(guidance=2.0, guidance_schedule=text, **fields)
        images[text] = sample(net, run, protocol, 0, 4, CPU)
        assert abs(sum(seen) - protocol.passes) <= 4, "the plan counts what is done"
    plain = sample(net, run, tiny_protocol(**fields), 0, 4, CPU)
    assert apart(images[None], images["interval-0-1"]) < 1e-5 * images[None].abs().max()
    assert min(apart(images[t], plain) for t in ("interval-0.3-0.7", "power-cosine-2")) > 1e-3


def test_a_schedule_is_of_the_id_and_of_what_is_sampled() -> None:
    one, other = (tiny_protocol(guidance=2.0, guidance_schedule=s) for s in (None, "interval-0-1"))
    assert one.id == tiny_protocol(guidance=2.0).id != other.id and one.sampled != other.sampled
    half = tiny_protocol(guidance=2.0, guidance_schedule="interval-0.25-0.75", sampling_steps=100)
    assert half.passes == 1.5 * 100 * half.images and half.copies == 2


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"guidance_schedule": "interval-0.7-0.3"}, "is no schedule of guidance: write interval"),
        ({"guidance_schedule": "power-cosine-0"}, "is no schedule of guidance"),
        ({"guidance_schedule": "cosine"}, "is no schedule of guidance"),
        ({"guidance": 1.0}, "'interval-0-1' of no guidance: set guidance, or leave it out"),
    ],
)
def test_a_schedule_that_is_none_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        tiny_protocol(**{"guidance": 2.0, "guidance_schedule": "interval-0-1"} | fields)


def test_data_without_labels_are_not_guided(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from harness.data import DATASETS

    monkeypatch.setitem(DATASETS, "blank", replace(DATASETS["digits"], classes=0))
    with pytest.raises(ValueError, match=r"guidance = 2.0 of blank, which has no labels: set it"):
        tiny_sweep(runs=tiny_run(data="blank"), protocols=tiny_protocol(guidance=2.0))


def test_ids_of_protocols_without_a_schedule_stand() -> None:
    assert Protocol(name="fid50k").id == "fid50k_23abe43f"
    assert share(GuidanceSchedule(), TIMES).tolist() == [1, 1, 1, 1]
