"""U-Nets: closed forms, labels, upsamplers, and what each can be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import apart, refused, run_verb, tiny_protocol, tiny_sweep, written
from networks import DIGITS, PIXELS, TINY_LDM, awake, built, inputs, measured_counts

from harness.models import Setting
from harness.models.unet_rows import LatentUNetModel, UNetModel
from harness.spec import Run
from harness.study import compute


@pytest.mark.parametrize(
    ("kind", "upsamples"), [(UNetModel, False), (UNetModel, True), (LatentUNetModel, False)]
)
def test_the_closed_form_of_a_u_net_is_fvcores_count(
    kind: type[UNetModel], upsamples: bool
) -> None:
    given: dict[str, Any] = {"width": 32, "mult": (1, 2, 3), "blocks": 1, "head_width": 32}
    row = kind("U-Net", "S", **given, upsamples=upsamples)
    setting = Setting((4, 32, 32), 10, 2)
    assert row.counts(setting) == measured_counts(row.build(setting), setting)


def test_a_u_net_without_a_label_is_one_of_nothing_known() -> None:
    """ADM has no null label: it adds nothing to the timestep, whatever the others do."""
    net, (x, t, y) = awake(built("digit-U-Net-S")), inputs()
    null = net(x, t, torch.full((3,), 10))
    with torch.no_grad():
        net.label_emb.weight.add_(1.0)
    assert torch.equal(net(x, t, torch.full((3,), 10)), null)
    assert apart(net(x, t, y), null) > 1e-3


def test_ldm_starts_as_zero() -> None:
    """As LDM's own code does; diffusers' network would start with a loss of 1.3."""
    torch.manual_seed(0)
    net, given = TINY_LDM.build(DIGITS).eval(), inputs()
    assert not net(*given).any()
    x, t, y = given
    moved = awake(net)(x, t, y)
    assert apart(net(x, t, (y + 1) % 10), moved) > 1e-4
    assert apart(net(x, (t + 500) % 1000, y), moved) > 1e-4


def test_an_upsampler_sees_the_image_that_it_enlarges() -> None:
    row = UNetModel(
        "U", "S", width=8, mult=(1, 2), groups=4, head_width=8, attention=(4,), upsamples=True
    )
    torch.manual_seed(0)
    net, (x, t, y) = awake(row.build(DIGITS).eval()), inputs()
    assert apart(net(x, t, y, torch.randn(3, 1, 4, 4)), net(x, t, y)) > 1e-3


@pytest.mark.parametrize("name", ["ADM-64", "ADM-128", "ADM-256", "ADM-512"])
def test_adm_is_planned_at_the_published_gflops(name: str) -> None:
    setting, parameters, gflops = PIXELS[name]
    run = Run(model=name, data=f"imagenet{setting.size}-pixels")
    assert compute.gflops(run) == pytest.approx(gflops, rel=1e-4)
    assert compute.parameters(run) == parameters


def test_an_upsampler_is_planned_and_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(model="ADM-U-256", data="imagenet256-pixels")
    protocol = tiny_protocol(features="inception", reference="imagenet256")
    sweep = written(tiny_sweep(runs=(run,), protocols=(protocol,)), tmp_path)
    words = (sweep, "--store", tmp_path / "store")
    status, text, _ = run_verb(capsys, "plan", *words)
    assert status == 0 and "311.8M   633.2" in text
    for more in (("run", *words), ("launch", *words), ("sample", *words, "--png", tmp_path / "x")):
        assert "no dataset here has pairs of them" in refused(capsys, *more)
    assert not (tmp_path / "store" / "runs").exists()


def test_ldm_takes_latents_of_its_own_side() -> None:
    """LDM-8's are those of Stable Diffusion's VAE in shape; LDM-4's no dataset of 256 px has."""
    plain = Run(model="LDM-8", objective="ddpm-fixed")
    assert compute.gflops(plain) == pytest.approx(57.12, rel=1e-3)
    with pytest.raises(ValueError, match="it is for latents of 64 × 64, these are of 32: take ano"):
        Run(model="LDM-4")
