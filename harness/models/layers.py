"""Parts that transformers share: embedders, positions, attention with its options, MLPs."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.dit_rows import MLP_RATIO, TIME_FEATURES, gated_width

NO_PARTS: frozenset[str] = frozenset()


def sincos_2d(width: int, side: int) -> Tensor:
    """Returns fixed positions [1, side², width]: half the channels for the column, half the row."""
    frequency = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    row, column = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64)], indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in (column, row)]  # in the released order
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], dim=1).float()[None]


def frequencies(count: int, device: torch.device) -> Tensor:
    """Returns `count` frequencies from 1 down to almost 1 / 10,000, in equal ratios.

    No buffer: the released checkpoints have no key for it, and networks are loaded from the meta
    device.
    """
    steps = torch.arange(count, dtype=torch.float32, device=device)
    return torch.exp(-math.log(10_000) * steps / count)


def sinusoids(t: Tensor, features: int) -> Tensor:
    """Timesteps [N] → [N, features], cosines first."""
    angles = t[:, None].float() * frequencies(features // 2, t.device)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scales and shifts tokens [N, T, width] by vectors [N, width]."""
    return fused(shift[:, None], x, 1 + scale[:, None])


def gated(x: Tensor, gate: Tensor, mixed: Tensor) -> Tensor:
    """Adds to tokens x [N, T, width] the tokens `mixed`, times a vector gate [N, width]."""
    return fused(x, gate[:, None], mixed)


def fused(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x + a · b in one kernel, whatever their types.

    Without autocast, which on a GPU would copy all to fp32 first and keep the copies for the
    backward pass: 7 % of the memory of a step of S/2 in bf16, and 72 of its kernels.
    """
    if x.device.type == "meta":  # it has no autocast
        return torch.addcmul(x, a, b)
    with torch.autocast(x.device.type, enabled=False):
        return torch.addcmul(x, a, b)


class TimestepEmbedder(nn.Module):
    """Timesteps [N] → [N, width]: 256 sinusoids, then an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, t: Tensor) -> Tensor:
        return self.mlp(sinusoids(t, TIME_FEATURES))


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


def unpatchify(x: Tensor, patch: int, side: int) -> Tensor:
    """Puts patches together: [N, side², patch² · C] → [N, C, H, W]."""
    x = x.unflatten(2, (patch, patch, -1)).unflatten(1, (side, side))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Computes attention of [N, heads, T, width / heads] by the fastest kernel.

    bias: added to the logits, [1 or N, heads, T, T]. On a CPU that is three products in bf16, where
    torch's fused one took 2 to 5 times as long (forward and backward), and where a bias learns,
    which the fused one does not do: what torch falls back on took 1.3 times as long.
    """
    learns = bias is not None and bias.requires_grad and torch.is_grad_enabled()
    if q.device.type == "cpu" and (q.dtype == torch.bfloat16 or learns):
        logits = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
        return (logits if bias is None else logits + bias).softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, None if bias is None else bias.to(q.dtype))


class RelativeBias(nn.Module):
    """A learned number for each head and each distance in rows and columns (BEiT, Swin).

    spare: rows of the table that nothing reads, which BEiT keeps for its class token.
    """

    def __init__(self, side: int, heads: int, spare: int = 0) -> None:
        super().__init__()
        self.side = side
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros((2 * side - 1) ** 2 + spare, heads)
        )

    def forward(self, kept: Tensor | None = None) -> Tensor:
        """Returns [1, heads, side², side²], or [N, heads, K, K] for the tokens kept [N, K]."""
        table, n = self.relative_position_bias_table, self.side
        place = torch.arange(n * n, device=table.device) if kept is None else kept
        code = place // n * (2 * n - 1) + place % n
        row = code[..., :, None] - code[..., None, :] + 2 * n * (n - 1)
        # Heads first: what is added to the logits is contiguous, and the backward pass twice as
        # fast as that of table[row].
        bias = table.t().contiguous().index_select(1, row.flatten()).unflatten(1, row.shape)
        return bias[None] if kept is None else bias.movedim(0, 1)


def rotate(x: Tensor, side: int) -> Tensor:
    """Rotates pairs of channels of x [N, heads, side², w] by row and column (2-D axial RoPE)."""
    place = torch.arange(side * side, device=x.device)
    speed = frequencies(x.shape[-1] // 4, x.device)
    angles = torch.cat([(place // side)[:, None] * speed, (place % side)[:, None] * speed], dim=1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class Attention(nn.Module):
    """Multi-head self-attention [N, T, width] → the same.

    conditioned: q, k and v get a part that is linear in the condition, the same for every token
    (DiffiT's time-dependent self-attention). parts: "relative-bias", "qk-norm", "rope".
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        qkv_bias: bool = True,
        conditioned: bool = False,
        parts: frozenset[str] = NO_PARTS,
        side: int = 0,
        spare: int = 0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.qkv_temb = nn.Linear(width, 3 * width) if conditioned else None
        self.rel_pos_bias = RelativeBias(side, heads, spare) if "relative-bias" in parts else None
        self.turned = side if "rope" in parts else 0
        normed = "qk-norm" in parts
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6) if normed else None
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6) if normed else None

    def forward(self, x: Tensor, c: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        """c: the condition [N, width]; kept: which tokens of the grid x has, [N, T], or all."""
        qkv = self.qkv(x)
        if self.qkv_temb is not None:
            qkv = qkv + self.qkv_temb(c)[:, None]
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if self.turned:
            q, k = rotate(q, self.turned), rotate(k, self.turned)
        bias = None if self.rel_pos_bias is None else self.rel_pos_bias(kept)
        return self.proj(attend(q, k, v, bias).transpose(1, 2).flatten(2))


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
    """The token-wise MLP with GELU, in its tanh form or exactly ("none")."""

    def __init__(self, width: int, gelu: str = "tanh") -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020): two thirds of the MLP's width, so that it costs as much."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * gated_width(width))
        self.fc2 = nn.Linear(gated_width(width), width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)
