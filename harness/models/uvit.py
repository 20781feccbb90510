"""U-ViT (Bao et al. 2023): label, timestep and patches as tokens, with long skips."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.layers import Attention, Mlp, PatchEmbed, sinusoids, unpatchify
from harness.models.rows import Setting
from harness.models.uvit_rows import EXTRAS, UViTModel


class Block(nn.Module):
    """A pre-norm block; with `skip` the tokens of an earlier block come in by concatenation."""

    def __init__(self, width: int, heads: int, skip: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, qkv_bias=False)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, gelu="none")
        self.skip_linear = nn.Linear(2 * width, width) if skip else None

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip_linear is not None and skip is not None:
            x = self.skip_linear(torch.cat([x, skip], dim=-1))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class UViT(nn.Module):
    """(x [N, C, H, W], t [N], y [N]) → [N, outputs · C, H, W]; weights are named as released.

    The released networks have one output, the noise.
    """

    def __init__(self, model: UViTModel, setting: Setting) -> None:
        super().__init__()
        width, heads, half = model.width, model.heads, model.depth // 2
        outputs = setting.outputs * setting.channels
        self.patch, self.side = model.patch, setting.size // model.patch
        self.patch_embed = PatchEmbed(setting.channels, model.patch, width)
        self.label_emb = nn.Embedding(setting.classes + 1, width)
        self.pos_embed = nn.Parameter(torch.zeros(1, EXTRAS + self.side**2, width))
        self.in_blocks = nn.ModuleList(Block(width, heads) for _ in range(half))
        self.mid_block = Block(width, heads)
        self.out_blocks = nn.ModuleList(Block(width, heads, skip=True) for _ in range(half))
        self.norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, model.patch**2 * outputs)
        self.final_layer = nn.Conv2d(outputs, outputs, 3, padding=1) if model.conv else None
        self.initialize()

    def initialize(self) -> None:
        """Draws N(0, 0.02) linears and positions; the rest keeps torch's defaults, none is zero."""
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x [N, C, H, W], t [N], y [N] → [N, outputs · C, H, W]."""
        patches = self.patch_embed(x)
        time = sinusoids(t, self.pos_embed.shape[-1]).to(patches.dtype)
        label = self.label_emb(y).to(patches.dtype)
        tokens = torch.cat([label[:, None], time[:, None], patches], dim=1) + self.pos_embed
        skips: list[Tensor] = []
        for block in self.in_blocks:
            tokens = block(tokens)
            skips.append(tokens)
        tokens = self.mid_block(tokens)
        for block in self.out_blocks:
            tokens = block(tokens, skips.pop())
        # The linear layer sees the extra tokens too, as the published counts do.
        image = unpatchify(self.decoder_pred(self.norm(tokens))[:, EXTRAS:], self.patch, self.side)
        return image if self.final_layer is None else self.final_layer(image)
