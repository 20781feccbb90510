"""DiT with the paper's conditioning blocks and its variants; weights are named as released."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from harness.models.dit_rows import MODULATION, DiTModel, conditioning_of, parts_of
from harness.models.layers import (
    NO_PARTS,
    Attention,
    CrossAttention,
    GatedMlp,
    LabelEmbedder,
    Mlp,
    PatchEmbed,
    TimestepEmbedder,
    gated,
    modulate,
    sincos_2d,
    unpatchify,
)
from harness.models.rows import Setting


class Block(nn.Module):
    """One transformer block in any of the conditionings (paper, Figure 3 and section 3.2).

    TMSA is DiffiT's: the condition enters the attention alone. parts: of a variant; side: tokens of
    a row of the grid; skip: whether the tokens of an earlier block come in too, as in U-ViT.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        conditioning: str,
        parts: frozenset[str] = NO_PARTS,
        side: int = 0,
        skip: bool = False,
        spare: int = 0,
    ) -> None:
        super().__init__()
        norm = nn.RMSNorm if "rmsnorm" in parts else nn.LayerNorm
        affine = conditioning in ("cross-attention", "in-context")
        self.timed = conditioning == "TMSA"
        self.norm1 = norm(width, elementwise_affine=affine, eps=1e-6)
        self.attn = Attention(
            width, heads, conditioned=self.timed, parts=parts, side=side, spare=spare
        )
        self.norm2 = norm(width, elementwise_affine=affine, eps=1e-6)
        self.mlp = GatedMlp(width) if "swiglu" in parts else Mlp(width)
        self.chunks = MODULATION[conditioning]
        if self.chunks:
            self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, self.chunks * width))
        self.cross = CrossAttention(width, heads) if conditioning == "cross-attention" else None
        if self.cross is not None:
            self.norm_cross = norm(width, elementwise_affine=True, eps=1e-6)
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(
        self, x: Tensor, c: Tensor, skip: Tensor | None = None, kept: Tensor | None = None
    ) -> Tensor:
        """x: tokens [N, T, width]; c: the condition, [N, width] for adaLN and TMSA, else [N, 2, …].

        skip: the tokens of an earlier block; kept: which tokens of the grid x has, [N, T], or all.
        """
        if self.skip_linear is not None and skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        if self.chunks == 6:
            shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
            mixed = self.attn(modulate(self.norm1(x), shift1, scale1), kept=kept)
            x = gated(x, gate1, mixed)
            return gated(x, gate2, self.mlp(modulate(self.norm2(x), shift2, scale2)))
        if self.chunks == 4:
            shift1, scale1, shift2, scale2 = self.adaLN_modulation(c).chunk(4, dim=1)
            x = x + self.attn(modulate(self.norm1(x), shift1, scale1))
            return x + self.mlp(modulate(self.norm2(x), shift2, scale2))
        x = x + self.attn(self.norm1(x), c if self.timed else None)
        if self.cross is not None:
            x = x + self.cross(self.norm_cross(x), c)
        return x + self.mlp(self.norm2(x))


class FinalLayer(nn.Module):
    """Tokens [N, T, width] → [N, T, patch² · outputs · C]."""

    def __init__(
        self, width: int, outputs: int, adaptive: bool, parts: frozenset[str] = NO_PARTS
    ) -> None:
        super().__init__()
        norm = nn.RMSNorm if "rmsnorm" in parts else nn.LayerNorm
        self.norm_final = norm(width, elementwise_affine=not adaptive, eps=1e-6)
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
        parts = parts_of(setting)
        self.conditioning = conditioning
        self.adaptive = conditioning not in ("cross-attention", "in-context")
        self.patch = patch
        self.side = setting.size // patch
        self.x_embedder = PatchEmbed(setting.channels, patch, width)
        self.t_embedder = TimestepEmbedder(width)
        self.y_embedder = LabelEmbedder(setting.classes, width)
        self.pos_embed = nn.Parameter(
            sincos_2d(width, self.side), requires_grad="learned-positions" in parts
        )
        self.add_blocks(model, parts)
        outputs = patch * patch * setting.outputs * setting.channels
        self.final_layer = self.last(width, outputs, parts)
        self.initialize()

    def add_blocks(self, model: DiTModel, parts: frozenset[str]) -> None:
        """Makes the blocks; with long skips the last half of them takes the tokens of the first."""
        self.skips = model.depth // 2 if "long-skips" in parts else 0
        self.blocks = nn.ModuleList(
            Block(
                model.width,
                model.heads,
                self.conditioning,
                parts,
                self.side,
                skip=i >= model.depth - self.skips,
            )
            for i in range(model.depth)
        )

    def last(self, width: int, outputs: int, parts: frozenset[str]) -> nn.Module:
        """Makes the final layer."""
        return FinalLayer(width, outputs, self.adaptive, parts)

    def initialize(self) -> None:
        """Draws the paper's weights: Xavier linears, zero biases, N(0, 0.02) embedders.

        Zero where blocks begin as the identity; relative biases and mask tokens as N(0, 0.02).
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))
                nn.init.constant_(cast(Tensor, module.bias), 0)
        for name, weight in self.named_parameters():
            if name.startswith(("t_embedder", "y_embedder")) and name.endswith("weight"):
                nn.init.normal_(weight, std=0.02)
            if name.endswith(("bias_table", "mask_token")):
                nn.init.normal_(weight, std=0.02)
            if name == "final_layer.linear.weight":
                nn.init.zeros_(weight)
            if self.conditioning == "adaLN-Zero" and name.endswith("adaLN_modulation.1.weight"):
                nn.init.zeros_(weight)

    def condition(self, t: Tensor, y: Tensor) -> Tensor:
        """The condition [N, width], or timestep and label as tokens [N, 2, width]."""
        t, y = self.t_embedder(t), self.y_embedder(y)
        return t + y if self.adaptive else torch.stack([t, y], dim=1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x [N, C, H, W], t [N], y [N] → [N, outputs · C, H, W]."""
        tokens, c = self.x_embedder(x) + self.pos_embed, self.condition(t, y)
        if self.conditioning == "in-context":
            tokens = torch.cat([tokens, c], dim=1)
        skips: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            late = i >= len(self.blocks) - self.skips
            tokens = block(tokens, c, skips.pop() if late else None)
            if i < self.skips:
                skips.append(tokens)
        return unpatchify(self.final_layer(tokens[:, : self.side**2], c), self.patch, self.side)
