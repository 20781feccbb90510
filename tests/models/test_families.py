"""The other families and DiT's variants: what holds of every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import apart
from networks import DIGITS, awake, built, inputs, measured_counts, saved_bytes
from torch import Tensor, nn

from harness.base import rng
from harness.models import CONDITIONINGS, MODELS, Setting
from harness.models.dit_rows import VARIANTS
from harness.models.layers import RelativeBias, rotate
from harness.models.rows import Model, loss_bytes
from harness.objectives import ddpm as diffusion
from harness.objectives.betas import linear_schedule
from harness.spec import Run

SMALL = (
    "digit-U-ViT-S/2",
    "digit-U-ViT-H/4",
    "digit-DiffiT-B/2",
    "digit-MDTv1-L/2",
    "digit-MDTv2-S/2",
    "digit-U-Net-S",
)


def variants(*conditionings: str) -> list[Setting]:
    """Those that fit the smallest DiT of three blocks."""
    row = MODELS["mini-DiT-B/4"]
    every = [
        Setting((1, 16, 16), 10, 1, conditioning, name)
        for conditioning in conditionings
        for name in VARIANTS
    ]
    return [setting for setting in every if row.problem(setting) is None]


def name_of(value: object) -> str:
    return f"{value.conditioning}-{value.variant}" if isinstance(value, Setting) else str(value)


@pytest.mark.parametrize("name", [n for n in MODELS if n in SMALL or n.startswith("digit-MDTv2")])
def test_the_closed_forms_are_fvcores_counts(name: str) -> None:
    assert MODELS[name].counts(DIGITS) == measured_counts(built(name), DIGITS)


@pytest.mark.parametrize("setting", variants(*CONDITIONINGS), ids=name_of)
def test_a_variant_is_counted_and_listens_to_timestep_and_label(setting: Setting) -> None:
    row = MODELS["mini-DiT-B/4"]
    net = awake(built("mini-DiT-B/4", setting))
    assert row.counts(setting) == measured_counts(net, setting)
    listens(net, setting)


def listens(net: Any, setting: Setting) -> None:
    x, t, y = inputs(setting)
    out = net(x, t, y)
    assert out.shape == (3, setting.outputs * setting.channels, *x.shape[2:])
    assert apart(net(x, (t + 500) % 1000, y), out) > 1e-4
    assert apart(net(x, t, (y + 1) % 10), out) > 1e-4
    assert apart(net(x[:1], t[:1], y[:1]), out[:1]) < 1e-5, (
        "an image does not see its neighbours in the batch"
    )


@pytest.mark.parametrize("name", SMALL)
def test_every_network_listens_to_timestep_and_label(name: str) -> None:
    listens(awake(built(name)), DIGITS)


@pytest.mark.parametrize("setting", variants("adaLN-Zero"), ids=name_of)
def test_a_variant_of_adaln_zero_starts_as_zero_and_is_another_network(setting: Setting) -> None:
    net = built("mini-DiT-B/4", setting)
    given = inputs(setting)
    assert not net(*given).any()
    plain = MODELS["mini-DiT-B/4"].build(Setting((1, 16, 16), 10, 1))
    ours, its = awake(net).state_dict(), plain.state_dict()
    shared = {key: x for key, x in ours.items() if key in its and x.shape == its[key].shape}
    plain.load_state_dict(shared, strict=False)
    moved = net.pos_embed.requires_grad or apart(plain(*given), net(*given)) > 1e-4
    assert moved, "the same weights give another output, or more of them are trained"


def test_no_variant_moves_an_id_of_today() -> None:
    assert Run(model="DiT-S/8").id == "DiT-S-8_5f41a31b"
    assert Run(model="DiT-S/8", conditioning="adaLN").id == "DiT-S-8_adf06daa"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": "DiT-S/2", "variant": "long"}, "variant = 'long': DiT has no such variant"),
        ({"model": "U-ViT-S/2", "variant": "rope"}, "U-ViT has no such variant: leave it out"),
        ({"model": "DiffiT-XL/2", "conditioning": "TMSA"}, "DiffiT has no such conditioning"),
        (
            {"model": "DiT-S/2", "variant": "modern", "conditioning": "in-context"},
            "rope needs a place in the grid",
        ),
        (
            {"model": "digit-DiT-S/2", "variant": "long-skips", "data": "digits8"},
            "long-skips needs 2 blocks, digit-DiT-S has 1",
        ),
        ({"model": "digit-MDTv1-S/2", "data": "digits8", "objective": "x"}, "objective"),
        ({"model": "LDM-4"}, "it is for latents of 64 × 64, these are of 32"),
        (
            {"model": "digit-U-ViT-S/4", "variant": "rope", "data": "digit", "objective": "flo"},
            "data = 'digit' .*objective = 'flo' .*variant = 'rope': digit-U-ViT has no such",
        ),
        ({"model": "ADM-256", "data": "digits"}, "halves the side 5 times, and 32 does not divide"),
    ],
)
def test_what_a_family_lacks_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Run(**fields)


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_at_the_start_is_that_of_no_knowledge(name: str) -> None:
    """The noise is unknown: 1, and what the network gives of its own."""
    net, n = built(name), 1000
    x0, noise = (rng.normal(0, n, (1, 8, 8), "cpu", "test", k) for k in range(2))
    table, t = linear_schedule().table("cpu"), torch.arange(n)
    given = []

    def denoiser(*of: Tensor) -> Tensor:
        given.append(net(*of))
        return given[0]

    with torch.no_grad():
        loss = diffusion.noise_loss(
            None, denoiser, table, 0.5 * x0, t, torch.zeros(n, dtype=torch.long), noise
        ).mean()
    own = given[0].square().mean()
    assert loss == pytest.approx(1 + float(own), abs=0.03)
    if name.startswith("digit-U-ViT-H"):  # the last layer's weights have a deviation of 0.02
        assert own == pytest.approx(MODELS[name].width * 0.02**2, rel=0.2)  # type: ignore[attr-defined]
    elif "U-ViT" not in name:
        assert own == 0


def test_relative_biases_depend_on_the_displacement_alone() -> None:
    bias = RelativeBias(4, 2)
    nn.init.normal_(bias.relative_position_bias_table)
    table = bias()[0].reshape(2, 4, 4, 4, 4)  # [head, row, column, row, column]
    assert torch.equal(table[:, :3, :3, 1:, 1:][:, 0, 0, 0, 0], table[:, 2, 2, 3, 3])
    assert torch.equal(table[:, 0, 1, 2, 0], table[:, 1, 2, 3, 1])
    assert not torch.equal(table[:, 0, 0, 0, 1], table[:, 0, 1, 0, 0])
    kept = torch.tensor([[5, 0, 10], [3, 2, 1]])
    for row, chosen in zip(bias(kept), kept, strict=True):
        assert torch.equal(row, bias()[0][:, chosen][:, :, chosen])


def test_rotated_products_depend_on_the_displacement_alone() -> None:
    torch.manual_seed(0)
    q, k = (torch.randn(8).expand(1, 1, 16, 8) for _ in range(2))
    table = (rotate(q, 4) @ rotate(k, 4).transpose(-1, -2)).reshape(4, 4, 4, 4)
    assert table[0, 1, 2, 0] == pytest.approx(float(table[1, 2, 3, 1]), abs=1e-5)
    assert abs(float(table[0, 0, 0, 1] - table[0, 0, 1, 0])) > 1e-3
    assert apart(rotate(q, 4).norm(dim=-1), q.norm(dim=-1)) < 1e-5


def test_a_model_without_variants_has_one_pass() -> None:
    assert Model("odd", "S").passes(DIGITS) == 1 and not Model("odd", "S").variants


@pytest.mark.parametrize(("model", "images"), [("U-ViT-S/4", 4), ("U-ViT-S/2", 1)])
def test_the_memory_of_u_vit_is_what_autograd_saves(model: str, images: int) -> None:
    setting = Setting((4, 32, 32), 1000, 1)
    net, row = built(model, setting), MODELS[model]
    saved = saved_bytes(net, *inputs(setting, images))
    kept = row.kept_bytes(setting, "fp32")
    assert kept and saved / images == pytest.approx(kept - loss_bytes(setting), rel=0.03)
