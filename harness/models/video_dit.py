"""DiT on clips: tubes of several frames are tokens, with joint or factorised attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.dit import DiT
from harness.models.dit_rows import DiTModel
from harness.models.layers import Attention, unpatchify
from harness.models.rows import Setting
from harness.models.video_rows import VideoDiTModel


def sincos_1d(width: int, count: int) -> Tensor:
    """Returns fixed positions [1, count, width] in time, as seen from the first.

    The first is zero, so that the first tube of a clip has the positions of an image.
    """
    frequency = 10_000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequency
    positions = torch.cat([angles.sin(), angles.cos()], dim=1)
    return (positions - positions[:1]).float()[None]


class AxisAttention(Attention):
    """Attention among the tokens of a frame, or over time among those of a place.

    Tokens [N, tubes · places, width] → the same; weights as in Attention.
    """

    def __init__(self, width: int, heads: int, tubes: int, over_time: bool) -> None:
        super().__init__(width, heads)
        self.tubes, self.over_time = tubes, over_time

    def forward(self, x: Tensor, c: Tensor | None = None, kept: Tensor | None = None) -> Tensor:
        grid = x.unflatten(1, (self.tubes, -1))
        if self.over_time:
            grid = grid.transpose(1, 2)
        mixed = super().forward(grid.flatten(0, 1)).unflatten(0, grid.shape[:2])
        return (mixed.transpose(1, 2) if self.over_time else mixed).flatten(1, 2)


class VideoDiT(DiT):
    """(x [N, C, F, H, W], t [N], y [N]) → [N, outputs · C, F, H, W].

    A tube is an image whose channels are those of its frames, so that weights are named and shaped
    as DiT's. With one frame the output is DiT's, bit for bit.
    """

    def __init__(self, model: VideoDiTModel, setting: Setting) -> None:
        self.factorised = setting.variant == "factorised"
        self.tube, self.tubes = model.tube, model.tubes(setting)
        super().__init__(model, model.image(setting))
        self.temp_embed = nn.Parameter(sincos_1d(model.width, self.tubes), requires_grad=False)

    def add_blocks(self, model: DiTModel, parts: frozenset[str]) -> None:
        super().add_blocks(model, parts)
        for i, block in enumerate(self.blocks if self.factorised else []):
            block.attn = AxisAttention(model.width, model.heads, self.tubes, over_time=i % 2 == 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """x [N, C, F, H, W], t [N], y [N] → [N, outputs · C, F, H, W]."""
        images = x.unflatten(2, (self.tubes, self.tube)).movedim(2, 1).flatten(2, 3).flatten(0, 1)
        patches = (self.x_embedder(images) + self.pos_embed).unflatten(0, (-1, self.tubes))
        tokens, c = (patches + self.temp_embed[:, :, None]).flatten(1, 2), self.condition(t, y)
        for block in self.blocks:
            tokens = block(tokens, c)
        patches = self.final_layer(tokens, c).unflatten(1, (self.tubes, -1)).flatten(0, 1)
        out = unpatchify(patches, self.patch, self.side).unflatten(1, (-1, self.tube))
        return out.unflatten(0, (-1, self.tubes)).movedim(1, 2).flatten(2, 3)
