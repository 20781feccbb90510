"""ADM's U-Net (Dhariwal & Nichol 2021) and its upsamplers; weights are named as released."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.models.layers import attend, sinusoids
from harness.models.rows import Setting
from harness.models.unet_rows import Part, UNetModel


class ResBlock(nn.Module):
    """Two convolutions; timestep and label scale and shift between them.

    Where `after` is not `side`, the tokens are averaged or repeated first: ADM's resampling.
    """

    def __init__(self, model: UNetModel, part: Part) -> None:
        super().__init__()
        a, b = part.enter, part.leave
        self.in_layers = nn.Sequential(
            nn.GroupNorm(model.groups, a), nn.SiLU(), nn.Conv2d(a, b, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * model.width, 2 * b))
        # In place of ADM 64's dropout, whose draws would depend on ranks: no dropout.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(model.groups, b), nn.SiLU(), nn.Identity(), nn.Conv2d(b, b, 3, padding=1)
        )
        self.skip_connection = nn.Identity() if a == b else nn.Conv2d(a, b, 1)
        self.scale = part.after / part.side

    def resampled(self, x: Tensor) -> Tensor:
        if self.scale < 1:
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.scale > 1 else x

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        norm, active, convolve = self.in_layers
        h = convolve(self.resampled(active(norm(x))))
        scale, shift = self.emb_layers(c)[..., None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.out_layers[0](h), 1 + scale)
        return self.skip_connection(self.resampled(x)) + self.out_layers[1:](h)


class AttentionBlock(nn.Module):
    """Self-attention among the places of [N, C, H, W]."""

    def __init__(self, model: UNetModel, part: Part) -> None:
        super().__init__()
        channels = part.enter
        self.heads = model.heads or channels // model.head_width
        self.split = model.split
        self.norm = nn.GroupNorm(model.groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        qkv = F.linear(tokens, self.qkv.weight[..., 0], self.qkv.bias)
        rows = (3, self.heads, -1) if self.split else (self.heads, 3, -1)
        qkv = qkv.unflatten(-1, rows)
        q, k, v = qkv.permute(2, 0, 3, 1, 4) if self.split else qkv.permute(3, 0, 2, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).flatten(2)
        out = F.linear(mixed, self.proj_out.weight[..., 0], self.proj_out.bias)
        return x + out.transpose(1, 2).unflatten(2, x.shape[2:])


def piece(model: UNetModel, part: Part) -> nn.Module:
    """Builds a part of the layout."""
    if part.kind == "conv":
        return nn.Conv2d(part.enter, part.leave, 3, padding=1)
    return (ResBlock if part.kind == "res" else AttentionBlock)(model, part)


class UNet(nn.Module):
    """(x [N, C, H, W], t [N], y [N]) → [N, outputs · C, H, W].

    ADM has no null label; here it adds nothing, so that weights are those released and labels can
    be dropped.
    """

    def __init__(self, model: UNetModel, setting: Setting) -> None:
        super().__init__()
        hidden, layout = 4 * model.width, model.layout(setting)
        self.width, self.classes, self.upsamples = model.width, setting.classes, model.upsamples
        self.time_embed = nn.Sequential(
            nn.Linear(model.width, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )
        self.label_emb = nn.Embedding(setting.classes, hidden)

        def groups(parts: list[list[Part]]) -> nn.ModuleList:
            return nn.ModuleList(nn.ModuleList(piece(model, p) for p in group) for group in parts)

        self.input_blocks = groups(layout.down)
        self.middle_block = groups([layout.middle])[0]
        self.output_blocks = groups(layout.up)
        last = model.channels(0)
        self.out = nn.Sequential(
            nn.GroupNorm(model.groups, last),
            nn.SiLU(),
            nn.Conv2d(last, setting.outputs * setting.channels, 3, padding=1),
        )
        self.initialize()

    def initialize(self) -> None:
        """Zeros what ends a residual branch and the network; the rest keeps torch's defaults."""
        for name, weight in self.named_parameters():
            if name.startswith("out.2.") or "out_layers.3." in name or "proj_out." in name:
                nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, y: Tensor, low: Tensor | None = None) -> Tensor:
        """x [N, C, H, W], t [N], y [N] → [N, outputs · C, H, W].

        low: what an upsampler enlarges, [N, C, h, w]; None: zeros.
        """
        if self.upsamples:
            low = torch.zeros_like(x) if low is None else low
            x = torch.cat([x, F.interpolate(low, x.shape[2:], mode="bilinear")], dim=1)
        c = self.time_embed(sinusoids(t, self.width))
        if self.classes:
            known = (y < self.classes)[:, None]
            c = c + self.label_emb(y.clamp(max=self.classes - 1)) * known
        kept: list[Tensor] = []
        for group in self.input_blocks:
            x = through(group, x, c)
            kept.append(x)
        x = through(self.middle_block, x, c)
        for group in self.output_blocks:
            x = through(group, torch.cat([x, kept.pop()], dim=1), c)
        return self.out(x)


def through(group: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    """Passes x through the parts of a group; the first convolution takes no condition."""
    assert isinstance(group, nn.ModuleList)
    for part in group:
        x = part(x) if isinstance(part, nn.Conv2d) else part(x, c)
    return x
