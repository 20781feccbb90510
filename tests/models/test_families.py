"""The other families and DiT's variants: published counts, and what holds of every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import apart, curve, only_training, train_all
from networks import DIGITS, awake, built, inputs, saved_bytes
from torch import Tensor, nn

from harness.base import rng
from harness.models import CONDITIONINGS, MODELS, Setting, flops
from harness.models.dit_rows import VARIANTS
from harness.models.layers import RelativeBias, rotate
from harness.models.rows import Counts, Model, loss_bytes
from harness.models.unet_rows import LatentUNetModel, UNetModel
from harness.objectives import ddpm as diffusion
from harness.objectives.betas import linear_schedule
from harness.spec import Run
from harness.study import compute
from harness.study.store import Store

# Parameters and Gflops at 256 px, counted from the authors' modules by fvcore and a handler of
# attention; DiffiT's by the paper's description. U-ViT predicts noise alone.
PUBLISHED = {
    "U-ViT-S/2": (44_772_516, 12.271),
    "U-ViT-S-deep/2": (58_425_508, 16.066),
    "U-ViT-M/2": (130_891_940, 35.258),
    "U-ViT-L/2": (286_763_172, 76.513),
    "U-ViT-H/2": (500_832_016, 133.284),
    "DiffiT-XL/2": (561_330_144, 118.575),
    "MDTv1-S/2": (35_797_208, 6.066),
    "MDTv1-B/2": (141_488_528, 23.025),
    "MDTv1-L/2": (477_641_312, 80.749),
    "MDTv1-XL/2": (699_778_144, 118.689),
    "MDTv2-S/2": (38_454_872, 6.745),
    "MDTv2-B/2": (152_112_272, 25.743),
    "MDTv2-L/2": (507_015_776, 88.265),
    "MDTv2-XL/2": (742_263_904, 129.560),
}
# The same of U-Nets; LDM's without the 512 numbers of each class, which lie outside.
U_NETS = {
    "ADM-64": (64, 295_904_454, 109.86),
    "ADM-128": (128, 421_529_606, 307.46),
    "ADM-256": (256, 553_838_086, 1121.9),
    "ADM-512": (512, 558_997_638, 1987.5),
    "ADM-U-256": (256, 311_795_910, 633.2),
    "ADM-U-512": (512, 308_835_270, 2510.9),
    "LDM-4": (64, 400_920_579, 104.39),
    "LDM-8": (32, 394_984_196, 57.12),
}
SMALL = (
    "digit-U-ViT-S/2",
    "digit-U-ViT-H/4",
    "digit-DiffiT-B/2",
    "digit-MDTv1-L/2",
    "digit-MDTv2-S/2",
    "digit-U-Net-S",
)
FIXED = {"data": "digits8", "objective": "ddpm-fixed"}  # noise alone


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


def counted(net: nn.Module, setting: Setting) -> Counts:
    macs = flops.macs(net, setting.shape)["total"]
    return Counts(macs, sum(p.numel() for p in net.parameters()))


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_network_has_the_published_parameters_and_gflops(name: str) -> None:
    setting = Setting((4, 32, 32), 1000, 1 if name.startswith("U-ViT") else 2)
    row = MODELS[name]
    found, (parameters, gflops) = row.counts(setting), PUBLISHED[name]
    with torch.device("meta"):
        net = row.build(setting)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert found and found.parameters == parameters
    assert found.macs / 1e9 == pytest.approx(gflops, abs=6e-4)


@pytest.mark.parametrize("name", U_NETS)
def test_every_u_net_has_the_published_parameters_and_gflops(name: str) -> None:
    row, (side, parameters, gflops) = MODELS[name], U_NETS[name]
    latent = name.startswith("LDM")
    channels = 4 if name == "LDM-8" else 3
    setting = Setting((channels, side, side), 1000, 1 if latent else 2)
    found = row.counts(setting)
    with torch.device("meta"):
        net = row.build(setting)
    held = sum(p.numel() for p in net.parameters())
    assert found and found.parameters == held == parameters + (512 * 1001 if latent else 0)
    assert found.macs / 1e9 == pytest.approx(gflops, rel=1e-4)


@pytest.mark.parametrize(
    ("kind", "upsamples"), [(UNetModel, False), (UNetModel, True), (LatentUNetModel, False)]
)
def test_the_closed_form_of_a_u_net_is_fvcores_count(
    kind: type[UNetModel], upsamples: bool
) -> None:
    given: dict[str, Any] = {"width": 32, "mult": (1, 2, 3), "blocks": 1, "head_width": 32}
    row = kind("U-Net", "S", **given, upsamples=upsamples)
    setting = Setting((4, 32, 32), 10, 2)
    assert row.counts(setting) == counted(row.build(setting), setting)


@pytest.mark.parametrize("name", [n for n in MODELS if n in SMALL or n.startswith("digit-MDTv2")])
def test_the_closed_forms_are_fvcores_counts(name: str) -> None:
    assert MODELS[name].counts(DIGITS) == counted(built(name), DIGITS)


@pytest.mark.parametrize("setting", variants(*CONDITIONINGS), ids=name_of)
def test_a_variant_is_counted_and_listens_to_timestep_and_label(setting: Setting) -> None:
    row = MODELS["mini-DiT-B/4"]
    net = awake(built("mini-DiT-B/4", setting))
    assert row.counts(setting) == counted(net, setting)
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


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "digit-U-ViT-S/4"},
        {"model": "digit-DiffiT-S/2"},
        {"model": "digit-MDTv2-S/2"},
        {"model": "digit-U-Net-S"},
        {"model": "digit-DiT-B/4", "variant": "modern"},
    ],
    ids=lambda fields: fields["model"],
)
def test_stopped_and_resumed_it_ends_bit_for_bit(fields: dict[str, str], tmp_path: Any) -> None:
    once, twice = Store(tmp_path / "once"), Store(tmp_path / "twice")
    both = only_training((10, 20), **fields | FIXED)
    (run,) = both.runs
    train_all(both, once)
    train_all(only_training((10,), **fields | FIXED), twice)
    train_all(both, twice)
    assert len(twice.logs(run)) == 2 and curve(twice, run) == curve(once, run)
    assert once.ema(run, 20).read_bytes() == twice.ema(run, 20).read_bytes()
    start = 2 if "MDT" in run.model else 1  # of both passes
    assert curve(once, run)[0][1] == pytest.approx(start, rel=0.25)


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


def test_a_u_net_without_a_label_is_one_of_nothing_known() -> None:
    """ADM has no null label: it adds nothing to the timestep, whatever the others do."""
    net, (x, t, y) = awake(built("digit-U-Net-S")), inputs()
    null = net(x, t, torch.full((3,), 10))
    with torch.no_grad():
        net.label_emb.weight.add_(1.0)
    assert torch.equal(net(x, t, torch.full((3,), 10)), null)
    assert apart(net(x, t, y), null) > 1e-3


def test_an_upsampler_sees_the_image_that_it_enlarges() -> None:
    row = UNetModel(
        "U", "S", width=8, mult=(1, 2), groups=4, head_width=8, attention=(4,), upsamples=True
    )
    torch.manual_seed(0)
    net, (x, t, y) = awake(row.build(DIGITS).eval()), inputs()
    assert apart(net(x, t, y, torch.randn(3, 1, 4, 4)), net(x, t, y)) > 1e-3


@pytest.mark.parametrize(("model", "images"), [("U-ViT-S/4", 4), ("U-ViT-S/2", 1)])
def test_the_memory_of_u_vit_is_what_autograd_saves(model: str, images: int) -> None:
    setting = Setting((4, 32, 32), 1000, 1)
    net, row = built(model, setting), MODELS[model]
    saved = saved_bytes(net, *inputs(setting, images))
    kept = row.kept_bytes(setting, "fp32")
    assert kept and saved / images == pytest.approx(kept - loss_bytes(setting), rel=0.03)


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_adm_is_planned_at_the_published_gflops(side: int) -> None:
    run = Run(model=f"ADM-{side}", data=f"imagenet{side}-pixels")
    assert compute.gflops(run) == pytest.approx(U_NETS[run.model][2], rel=1e-4)
    assert compute.parameters(run) == U_NETS[run.model][1]
