"""DINOv2's ViT-L/14 as dgm-eval uses it for FD-DINOv2; weights are named as in the released file.

Sources: facebookresearch/dinov2 (Apache-2.0), the network; layer6ai-labs/dgm-eval (MIT), what it
is fed with. Written for this project, and compared with both by tests/scoring/test_vision.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.extractors.resize import bicubic, normalized

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
SIDE = 224
OFFSET = 0.1  # of the scale at which position embeddings are resized, as in the released code


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        qkv = self.qkv(x).view(n, tokens, 3, self.heads, width // self.heads)
        mixed = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        joined: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, tokens, width))
        return joined


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.ls1, self.ls2 = LayerScale(width), LayerScale(width)
        self.attn, self.mlp = Attention(width, heads), MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        x = x + self.ls2(self.mlp(self.norm2(x)))
        return x


class Patches(nn.Module):
    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return out


class DINOv2(nn.Module):
    """The class token after the last norm, `pool`; the defaults are those of ViT-L/14.

    `grid`: patches a side of the images it was trained on, 518 / 14.
    """

    def __init__(
        self, width: int = 1024, depth: int = 24, heads: int = 16, patch: int = 14, grid: int = 37
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))  # in the file, of training alone
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid**2, width) * 0.02)
        self.patch_embed = Patches(width, patch)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.encode(normalized(bicubic(images, SIDE), MEAN, DEVIATION)),)

    def encode(self, x: Tensor) -> Tensor:
        """Normalized images [N, 3, H, H] → [N, width]."""
        patches = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), patches], dim=1)
        x = x + self.positions(round(patches.shape[1] ** 0.5))
        for block in self.blocks:
            x = block(x)
        pool: Tensor = self.norm(x)[:, 0]
        return pool

    def positions(self, side: int) -> Tensor:
        """The position embeddings [1, 1 + side², width], resized from those of training.

        The scale is a little larger than side / grid, and the released weights expect its rounding.
        """
        grid = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if side == grid:
            return self.pos_embed
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        rest = rest.unflatten(1, (grid, grid)).permute(0, 3, 1, 2)
        scale = (side + OFFSET) / grid
        rest = F.interpolate(rest, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([first, rest.flatten(2).transpose(1, 2)], dim=1)


def build(path: Path | None) -> DINOv2:
    """ViT-L/14 with the weights of a file; None: random ones."""
    network = DINOv2()
    if path:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network
