"""MDT's masked pass: what is drawn for it, what it costs, and that no process count changes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import apart, tiny_run
from networks import DIGITS, awake, built, inputs, saved_bytes

from harness.data.digits import Digits
from harness.models import MODELS, Setting
from harness.models.mdt_rows import MDTModel
from harness.spec import Run
from harness.study import compute
from harness.training.loop import make_batch

CPU = torch.device("cpu")
FIELDS: dict[str, Any] = {
    "model": "digit-MDTv2-S/2",
    "data": "digits8",
    "batch_size": 12,
}


def drawn(step: int, low: int, high: int, **fields: Any) -> tuple[torch.Tensor, ...]:
    return make_batch(tiny_run(**FIELDS | fields), Digits("digits8"), CPU, step, low, high)


@pytest.mark.parametrize("name", ["digit-MDTv1-L/2", "digit-MDTv2-XL/2"])
def test_a_masked_pass_that_hides_nothing_is_the_full_pass(name: str) -> None:
    """Tokens in any order: biases, positions and places are gathered alike."""
    net, (x, t, y) = awake(built(name)), inputs()
    twice = (torch.cat([v, v]) for v in (x, t, y))
    everything = torch.stack([torch.randperm(16) for _ in range(3)])
    both = net(*twice, kept=everything)
    assert apart(both[:3], net(x, t, y)) < 1e-5
    assert apart(both[3:], both[:3]) < 1e-5
    partial = net(*(torch.cat([v, v]) for v in (x, t, y)), kept=everything[:, :9])
    assert torch.equal(partial[:3], both[:3]) and apart(partial[3:], both[3:]) > 1e-3


def test_version_1_does_not_see_what_is_hidden() -> None:
    net, (x, t, y) = awake(built("digit-MDTv1-L/2")), inputs()
    kept = torch.arange(8).expand(3, 8)  # the upper half
    hidden = torch.cat([x[:, :, :4], torch.zeros_like(x[:, :, 4:])], dim=2)
    full = [
        net(*(torch.cat([v, w]) for v, w in ((x, z), (t, t), (y, y))), kept=kept)[3:]
        for z in (x, hidden)
    ]
    assert torch.equal(*full)


def test_every_weight_learns_from_both_passes() -> None:
    net = awake(built("digit-MDTv2-S/2"))
    twice = (torch.cat([v, v]) for v in inputs())
    net(*twice, kept=torch.arange(9).expand(3, 9)).square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())


def test_the_masked_pass_sees_the_same_samples_and_times_with_noise_of_its_own() -> None:
    x0, t, y, noise, kept = drawn(3, 0, 12, label_dropout=0.5)
    assert torch.equal(x0[:12], x0[12:]) and torch.equal(t[:12], t[12:])
    assert apart(noise[:12], noise[12:]) > 1
    assert not torch.equal(y[:12], y[12:]), "labels are dropped anew"
    assert 8 <= kept.shape[1] <= 11 and all(len(set(row.tolist())) == len(row) for row in kept)
    plain = make_batch(
        tiny_run(data="digits8", batch_size=12, label_dropout=0.5), Digits("digits8"), CPU, 3, 0, 12
    )
    for mine, its in zip((x0, t, y, noise), plain, strict=True):
        assert torch.equal(mine[:12], its), "the first pass is any other model's"


def test_what_is_hidden_depends_on_slot_and_step_alone() -> None:
    whole, first, second = (drawn(3, *span) for span in ((0, 12), (0, 5), (5, 12)))
    assert torch.equal(whole[4], torch.cat([first[4], second[4]]))
    assert not torch.equal(whole[4][:, :8], drawn(4, 0, 12)[4][:, :8])
    counts = {drawn(step, 0, 1)[4].shape[1] for step in range(1, 30)}
    assert counts == {8, 9, 10, 11}, "version 2 hides 30 to 50 %"
    assert {drawn(s, 0, 1, model="digit-MDTv1-S/2")[4].shape[1] for s in range(1, 9)} == {11}


def test_both_passes_are_on_the_compute_axis() -> None:
    """backbones: (full + masked) / full, at the mean of what is hidden."""
    setting = Setting((4, 32, 32), 1000, 2)
    expected = {
        "MDTv1-S/2": 1.82,
        "MDTv1-B/2": 1.82,
        "MDTv1-L/2": 1.76,
        "MDTv1-XL/2": 1.75,
        "MDTv2-S/2": 1.87,
        "MDTv2-XL/2": 1.69,
    }
    for name, passes in expected.items():
        assert MODELS[name].passes(setting) == pytest.approx(passes, abs=0.006)
    run = Run(model="MDTv1-XL/2")
    assert compute.training_gflops(run) == pytest.approx(3 * compute.gflops(run) * 1.75, rel=0.003)


def test_the_memory_of_a_step_is_that_of_both_passes() -> None:
    row = MODELS["digit-MDTv1-L/2"]
    assert isinstance(row, MDTModel)
    n = 16
    given = (torch.cat([v, v]) for v in inputs(n=n))
    kept = torch.stack([torch.randperm(16)[:11] for _ in range(n)])
    saved = saved_bytes(row.build(DIGITS), *given, kept=kept)
    assert saved / n == pytest.approx(row.kept_bytes(DIGITS, "fp32"), rel=0.15)
