"""DiT with the paper's four conditioning blocks; weights are named as in the released files."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.dit_rows import (
    MLP_RATIO,
    MODULATION,
    TIME_FEATURES,
    DiTModel,
    conditioning_of,
)
from harness.models.rows import Setting


def sincos_2d(width: int, side: int) -> Tensor:
    """Returns fixed positions [1, side², width]: half the channels for the column, half the row."""
    frequency = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64)], indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (column, row)]  # in the released order
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()[None]


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scales and shifts tokens [N, T, width] by vectors [N, width]."""
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class TimestepEmbedder(nn.Module):
    """Timesteps [N] → [N, width]: 256 sinusoids (cosines first, period 10,000), then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        half = TIME_FEATURES // 2
        # No buffer: the released checkpoints have no key for it, and networks are loaded from the
        # meta device.
        frequency = torch.exp(
            -math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
        )
        angles = t[:, None].float() * frequency
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


class LabelEmbedder(nn.Module):
    """Labels [N] → [N, width]; the last row is the null label of classifier-free guidance."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, y: Tensor) -> Tensor:
        return self.embedding_table(y)


class PatchEmbed(nn.Module):
    """Images [N, C, H, W] → tokens [N, T, width]: a strided convolution as one matrix product."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        p = self.patch
        tokens = (
            x.reshape(n, c, h // p, p, w // p, p)
            .permute(0, 2, 4, 1, 3, 5)
            .reshape(n, -1, c * p * p)
        )
        return F.linear(tokens, self.proj.weight.flatten(1), self.proj.bias)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Computes attention of [N, heads, T, width / heads] by the fastest kernel.

    In bf16 on a CPU that is three products: torch's fused one took 2 to 5 times as long (forward
    and backward).
    """
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":
        return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head self-attention [N, T, width] → the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Attention of image tokens [N, T, width] to the tokens [N, 2, width] of timestep and label."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(c).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """The token-wise MLP with tanh-GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """One transformer block in any of the four conditionings (paper, Figure 3 and section 3.2)."""

    def __init__(self, width: int, heads: int, conditioning: str) -> None:
        super().__init__()
        adaptive = conditioning.startswith("adaLN")
        self.norm1 = nn.LayerNorm(width, elementwise_affine=not adaptive, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=not adaptive, eps=1e-6)
        self.mlp = Mlp(width)
        self.chunks = MODULATION[conditioning]
        if self.chunks:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, self.chunks * width))
        self.cross = CrossAttention(width, heads) if conditioning == "cross-attention" else None
        if self.cross is not None:
            self.norm_cross = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x: tokens [N, T, width]; c: the condition, [N, width] for adaLN, [N, 2, width] else."""
        if self.chunks == 6:
            shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
            x = torch.addcmul(x, gate1[:, None], self.attn(modulate(self.norm1(x), shift1, scale1)))
            return torch.addcmul(
                x, gate2[:, None], self.mlp(modulate(self.norm2(x), shift2, scale2))
            )
        if self.chunks == 4:
            shift1, scale1, shift2, scale2 = self.adaLN_modulation(c).chunk(4, dim=1)
            x = x + self.attn(modulate(self.norm1(x), shift1, scale1))
            return x + self.mlp(modulate(self.norm2(x), shift2, scale2))
        x = x + self.attn(self.norm1(x))
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x), c)
        return x + self.mlp(self.norm2(x))


class FinalLayer(nn.Module):
    """Tokens [N, T, width] → [N, T, patch² · 2C]."""

    def __init__(self, width: int, outputs: int, adaptive: bool) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=not adaptive, eps=1e-6)
        self.linear = nn.Linear(width, outputs)
        self.adaptive = adaptive
        if adaptive:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        x = self.norm_final(x)
        return self.linear(
            modulate(x, *self.adaLN_modulation(c).chunk(2, dim=1)) if self.adaptive else x
        )


class DiT(nn.Module):
    """The diffusion transformer: (x [N, C, H, W], t [N], y [N]) → [N, outputs · C, H, W].

    With two outputs the first C channels are the noise, the others the variance.
    """

    def __init__(self, model: DiTModel, setting: Setting) -> None:
        super().__init__()
        width, patch, conditioning = model.width, model.patch, conditioning_of(setting)
        self.conditioning = conditioning
        self.patch = patch
        self.side = setting.size // patch
        self.x_embedder = PatchEmbed(setting.channels, patch, width)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(setting.classes, width)
        self.pos_embed = nn.Parameter(sincos_2d(width, self.side), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(width, model.heads, conditioning) for _ in range(model.depth)
        )
        self.final_layer = FinalLayer(
            width,
            patch * patch * setting.outputs * setting.channels,
            conditioning.startswith("adaLN"),
        )
        self.initialize()

    def initialize(self) -> None:
        """Draws the paper's weights: Xavier linears, zero biases, N(0, 0.02) embedders.

        Zero where blocks begin as the identity.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.constant_(cast(Tensor, module.bias), 0)
        for name, weight in self.named_parameters():
            if name.startswith(("t_embedder", "y_embedder")) and name.endswith("weight"):
                nn.init.normal_(weight, std=0.02)
            if name == "final_layer.linear.weight":
                nn.init.zeros_(weight)
            if self.conditioning == "adaLN-Zero" and name.endswith("adaLN_modulation.1.weight"):
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x [N, C, H, W], t [N], y [N] → [N, outputs · C, H, W]."""
        tokens = self.x_embedder(x) + self.pos_embed
        t, y = self.t_embedder(t), self.y_embedder(y)
        c = t + y if self.final_layer.adaptive else torch.stack([t, y], dim=1)
        if self.conditioning == "in-context":
            tokens = torch.cat([tokens, c], dim=1)
        for block in self.blocks:
            tokens = block(tokens, c)
        return self.unpatchify(self.final_layer(tokens[:, : self.side**2], c))

    def unpatchify(self, x: Tensor) -> Tensor:
        """Puts patches together: [N, T, patch² · C] → [N, C, H, W]."""
        x = x.unflatten(2, (self.patch, self.patch, -1)).unflatten(1, (self.side, self.side))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
