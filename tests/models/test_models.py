"""DiT under the names of the released checkpoints, and what holds at its initialisation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import apart, tiny_run
from networks import awake
from torch import Tensor

from harness.base import rng
from harness.models import CONDITIONINGS, Setting
from harness.models.dit import DiT
from harness.models.dit_rows import DITS, DiTModel
from harness.models.layers import sincos_2d, unpatchify
from harness.objectives import ddpm as diffusion
from harness.objectives.betas import linear_schedule
from harness.spec import Run
from harness.study.compute import network

SMALL = DiTModel("DiT", "small", patch=2, depth=2, width=16, heads=2)
CROSS = ("cross.q", "cross.kv", "cross.proj", "norm_cross")
LINEARS = {
    "x_embedder.proj": (16, 4, 2, 2),
    "t_embedder.mlp.0": (16, 256),
    "t_embedder.mlp.2": (16, 16),
    **{
        f"blocks.{i}.{name}": shape
        for i in range(2)
        for name, shape in (
            ("attn.qkv", (48, 16)),
            ("attn.proj", (16, 16)),
            ("mlp.fc1", (64, 16)),
            ("mlp.fc2", (16, 64)),
            ("adaLN_modulation.1", (96, 16)),
        )
    },
    "final_layer.linear": (32, 16),
    "final_layer.adaLN_modulation.1": (32, 16),
}


def small(conditioning: str = "adaLN-Zero", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return DiT(SMALL, Setting((4, 8, 8), 10, 2, conditioning)).eval()


def inputs(n: int = 3, classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 4, 8, 8), torch.randint(1000, (n,)), torch.randint(classes, (n,))


def test_the_state_dict_has_the_released_names_and_shapes() -> None:
    expected = {f"{name}.weight": shape for name, shape in LINEARS.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in LINEARS.items()}
    expected |= {"pos_embed": (1, 16, 16), "y_embedder.embedding_table.weight": (11, 16)}
    assert {name: tuple(x.shape) for name, x in small().state_dict().items()} == expected


def by_the_book(w: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The paper's network on a state dict of released names, every operation written out."""

    def linear(name: str, value: Tensor) -> Tensor:
        return F.linear(value, w[f"{name}.weight"], w[f"{name}.bias"])

    def normed(value: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        centred = value - value.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return unit * (1 + scale[:, None]) + shift[:, None]

    angles = t[:, None] * torch.exp(-math.log(10_000) * torch.arange(128) / 128)
    c = linear(
        "t_embedder.mlp.2",
        F.silu(linear("t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], 1))),
    )
    c = F.silu(c + w["y_embedder.embedding_table.weight"][y])
    h = (
        F.conv2d(x, w["x_embedder.proj.weight"], w["x_embedder.proj.bias"], stride=2)
        .flatten(2)
        .transpose(1, 2)
    )
    h = h + w["pos_embed"]
    for i in range(2):
        block = f"blocks.{i}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(
            f"{block}.adaLN_modulation.1", c
        ).chunk(6, 1)
        qkv = linear(f"{block}.attn.qkv", normed(h, shift1, scale1)).reshape(len(x), -1, 3, 2, 8)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(2, 3) / math.sqrt(8)).softmax(-1) @ v
        h = h + gate1[:, None] * linear(
            f"{block}.attn.proj", mixed.transpose(1, 2).reshape(h.shape)
        )
        inner = F.gelu(linear(f"{block}.mlp.fc1", normed(h, shift2, scale2)), approximate="tanh")
        h = h + gate2[:, None] * linear(f"{block}.mlp.fc2", inner)
    shift, scale = linear("final_layer.adaLN_modulation.1", c).chunk(2, 1)
    out = linear("final_layer.linear", normed(h, shift, scale)).reshape(len(x), 4, 4, 2, 2, 8)
    return torch.einsum("nhwpqc->nchpwq", out).reshape(len(x), 8, 8, 8)


def test_the_forward_is_the_papers_on_the_released_names() -> None:
    net, given = awake(small()), inputs()
    assert apart(net(*given), by_the_book(net.state_dict(), *given)) < 1e-5


def test_positions_encode_the_width_axis_first() -> None:
    grid = sincos_2d(16, 4).reshape(4, 4, 16)  # [row, column, channel]
    first, second = grid[..., :8], grid[..., 8:]
    assert torch.equal(first[0], first[3]) and torch.equal(second[:, 0], second[:, 3])
    assert not torch.equal(first[:, 0], first[:, 3])
    frequencies = 10_000.0 ** (-torch.arange(4) / 4)
    assert torch.allclose(
        first[0, 3], torch.cat([(3 * frequencies).sin(), (3 * frequencies).cos()])
    )
    net = small()
    assert not net.pos_embed.requires_grad and torch.equal(net.pos_embed, sincos_2d(16, 4))


def test_at_initialisation_every_block_is_the_identity_and_the_output_is_zero() -> None:
    net = small()
    tokens, c = torch.randn(2, 16, 16), torch.randn(2, 16)
    assert all(torch.equal(block(tokens, c), tokens) for block in net.blocks)
    assert torch.equal(net(*inputs()), torch.zeros(3, 8, 8, 8))


def test_initialisation_is_the_papers() -> None:
    net: Any = network(Run(model="DiT-S/8"))
    block = net.blocks[0]
    for table in (net.y_embedder.embedding_table, net.t_embedder.mlp[0], net.t_embedder.mlp[2]):
        assert float(table.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    for weight in (
        block.attn.qkv.weight,
        block.mlp.fc1.weight,
        net.x_embedder.proj.weight.flatten(1),
    ):
        bound = math.sqrt(6 / sum(weight.shape))
        assert float(weight.detach().abs().max()) == pytest.approx(bound, rel=0.01)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))
    silent = [part.adaLN_modulation[1].weight for part in (*net.blocks, net.final_layer)]
    assert not any(weight.any() for weight in [*silent, net.final_layer.linear.weight])


@pytest.mark.parametrize("patch", [8, 4, 2])
def test_unpatchify_undoes_patchify(patch: int) -> None:
    x = torch.randn(2, 2, 16, 16)
    cut = x.unfold(2, patch, patch).unfold(3, patch, patch)  # [N, C, rows, columns, p, q]
    tokens = cut.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    assert torch.equal(unpatchify(tokens, patch, 16 // patch), x)


def test_the_patch_embedding_is_the_strided_convolution() -> None:
    net, x = small(), torch.randn(2, 4, 8, 8)
    convolved = net.x_embedder.proj(x).flatten(2).transpose(1, 2)
    assert apart(net.x_embedder(x), convolved) < 1e-5


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_every_conditioning_listens_to_timestep_and_label(conditioning: str) -> None:
    net, (x, t, y) = awake(small(conditioning)), inputs()
    out = net(x, t, y)
    assert out.shape == (3, 8, 8, 8)
    assert (
        apart(net(x, (t + 500) % 1000, y), out) > 1e-4
        and apart(net(x, t, (y + 1) % 10), out) > 1e-4
    )
    assert apart(net(x[:1], t[:1], y[:1]), out[:1]) < 1e-5, (
        "an image does not see its neighbours in the batch"
    )
    out.square().mean().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_only_adaln_zero_starts_as_the_identity(conditioning: str) -> None:
    net, tokens = small(conditioning), torch.randn(2, 16, 16)
    c = torch.randn(2, 16) if net.adaptive else torch.randn(2, 2, 16)
    assert torch.equal(net.blocks[0](tokens, c), tokens) == (conditioning == "adaLN-Zero")


@pytest.mark.parametrize(
    ("conditioning", "names"),
    [
        ("in-context", set()),
        ("adaLN", {"adaLN_modulation.1.weight", "adaLN_modulation.1.bias"}),
        ("TMSA", set()),
        ("cross-attention", {f"{part}.{kind}" for part in CROSS for kind in ("weight", "bias")}),
    ],
)
def test_what_a_block_has_beside_attention_and_mlp(conditioning: str, names: set[str]) -> None:
    block = small(conditioning).blocks[0]
    own = {
        name
        for name, _ in block.named_parameters()
        if name.split(".")[0] not in ("attn", "mlp", "norm1", "norm2")
    }
    assert own == names
    assert (block.norm1.weight is None) == (conditioning in ("adaLN", "TMSA")), (
        "affine norms where the condition is not a vector"
    )
    assert (block.attn.qkv_temb is not None) == (conditioning == "TMSA")
    if conditioning == "adaLN":
        assert block.adaLN_modulation[1].weight.shape == (64, 16)


@pytest.mark.parametrize(
    "run", [tiny_run(model="mini-DiT-S/4"), Run(model="mini-DiT-S/8")], ids=str
)
def test_the_loss_at_initialisation_is_that_of_the_paper(run: Run) -> None:
    net, channels, size = network(run).eval(), *((1, 16) if run.data == "digits" else (4, 32))
    n = 1000
    x0, noise = (rng.normal(0, n, (channels, size, size), "cpu", "test", k) for k in range(2))
    table, t = linear_schedule().table("cpu"), torch.arange(1000)
    with torch.no_grad():
        mse, vb = diffusion.losses(net, table, 0.5 * x0, t, torch.zeros(n, dtype=torch.long), noise)
    assert mse.mean() == pytest.approx(1, abs=0.01) and 1.005 < mse.mean() + vb.mean() < 1.025


def test_the_table_of_models_is_the_papers() -> None:
    sizes = {
        (row.size, row.depth, row.width, row.heads)
        for name, row in DITS.items()
        if name.startswith("DiT")
    }
    assert sizes == {
        ("S", 12, 384, 6),
        ("B", 12, 768, 12),
        ("L", 24, 1024, 16),
        ("XL", 28, 1152, 16),
    }
    for family in ("mini-DiT", "digit-DiT"):
        assert {name.split("-", 1)[1] for name in DITS if name.startswith(family + "-")} == {
            name for name in DITS if name.startswith("DiT")
        }


def test_a_token_of_the_digits_study_is_wider_than_its_patch_has_numbers() -> None:
    for name, row in DITS.items():
        if name.startswith("digit-DiT"):
            assert row.width > row.patch**2, name
