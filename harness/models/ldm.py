"""LDM's U-Net (Rombach et al. 2022): diffusers' UNet2DConditionModel and a token of the class."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import harness.base.torchvision_ops  # noqa: F401  # diffusers imports torchvision
from harness.models.rows import Setting
from harness.models.unet_rows import CONTEXT, LatentUNetModel


class LatentUNet(nn.Module):
    """(x [N, C, H, W], t [N], y [N]) → [N, outputs · C, H, W]."""

    def __init__(self, model: LatentUNetModel, setting: Setting) -> None:
        super().__init__()
        from diffusers import UNet2DConditionModel  # takes seconds to import

        levels = range(len(model.mult))
        attends = [setting.size >> level in model.attention for level in levels]
        channels = [model.channels(level) for level in levels]
        self.embedding = nn.Embedding(setting.classes + 1, CONTEXT)
        self.unet: Any = UNet2DConditionModel(
            sample_size=setting.size,
            in_channels=setting.channels,
            out_channels=setting.outputs * setting.channels,
            down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
            up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]],
            block_out_channels=channels,
            layers_per_block=model.blocks,
            cross_attention_dim=CONTEXT,
            norm_num_groups=model.groups,
            # diffusers reads this as the number of heads.
            attention_head_dim=[model.heads or c // model.head_width for c in channels],
        )
        self.initialize()

    def initialize(self) -> None:
        """Zeros what ends a residual branch and the network, as LDM does and diffusers does not."""
        for name, weight in self.unet.named_parameters():
            if name.startswith("conv_out.") or ".conv2." in name or ".proj_out." in name:
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x [N, C, H, W], t [N], y [N] → [N, outputs · C, H, W]."""
        token = self.embedding(y)[:, None]
        return self.unet(x, t, encoder_hidden_states=token).sample
