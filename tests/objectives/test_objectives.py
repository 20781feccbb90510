"""Every objective from training to a score: its loss at the start, its log, resume, samples."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers import curve, score_all, tiny_protocol, tiny_run, tiny_sweep, train_all

from harness.data.digits import Digits
from harness.objectives import OBJECTIVES
from harness.spec import Sweep
from harness.study import compute
from harness.study.logs import is_log_line
from harness.study.plan import missing
from harness.study.store import Store

NAMES = [name for name in OBJECTIVES if name != "ddpm"]


def sweep_of(name: str, *steps: int) -> Sweep:
    sampler = OBJECTIVES[name].samplers[0]
    protocols = (tiny_protocol(sampler=sampler, sampling_steps=4, images=8),)
    return tiny_sweep(runs=(tiny_run(objective=name),), steps=steps, protocols=protocols)


def first_loss(name: str) -> float:
    """The mean loss of a network that gives 0, as all do at the start, from the data's variance."""
    data = float((Digits().images ** 2).mean())
    flow = OBJECTIVES[name].settings
    if "prediction" in flow or name.startswith("ddpm"):
        return 1.0  # the noise's, whatever the path
    if flow.get("path") == "gvp":
        return (math.pi / 2) ** 2 * (data + 1) / 2
    return data + 1


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_is_trained_resumed_and_scored(name: str, tmp_path: Path) -> None:
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    train_all(sweep_of(name, 20), whole)
    for step in (8, 20):
        train_all(sweep_of(name, step), parts)
    (run,) = sweep_of(name, 20).runs
    lines, _ = whole.read_log(run)
    assert curve(whole, run) == curve(parts, run), "killed and resumed bit for bit"
    assert all(is_log_line(line) and line["loss"] == line["mse"] for line in lines)
    assert "vb" not in lines[0]
    if "weighted" not in name and "snr" not in name:
        early = sum(line["loss"] for line in lines[:3]) / 3
        assert early == pytest.approx(first_loss(name), rel=0.35)
    score_all(sweep_of(name, 20), whole)
    assert not missing(sweep_of(name, 20), whole)


def test_networks_without_variance_channels_are_counted_as_they_are_built() -> None:
    for model in ("DiT-S/8", "mini-DiT-B/4"):
        run, plain = (
            tiny_run(model=model, data="digits", objective=name) for name in ("flow", None)
        )
        with torch.device("meta"):
            net = compute.network(run)
        assert sum(p.numel() for p in net.parameters()) == compute.parameters(run)
        assert compute.parameters(run) < compute.parameters(plain)
        assert (
            net(
                torch.zeros(1, 1, 16, 16, device="meta"),
                *torch.zeros(2, 1, dtype=torch.long, device="meta"),
            ).shape[1]
            == 1
        )
