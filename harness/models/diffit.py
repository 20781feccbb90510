"""Latent DiffiT (Hatamizadeh et al. 2023): DiT with time-dependent self-attention."""

from __future__ import annotations

from torch import Tensor, nn

from harness.models.dit import DiT


class PlainFinalLayer(nn.Module):
    """Tokens [N, T, width] → [N, T, patch² · outputs · C], whatever the condition."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm_final = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.linear = nn.Linear(width, outputs)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.linear(nn.functional.silu(self.norm_final(x)))


class DiffiT(DiT):
    """(x [N, C, H, W], t [N], y [N]) → [N, outputs · C, H, W].

    Timestep and label enter the attention of each block alone: nothing is modulated or gated, so
    that only the last layer starts at zero.
    """

    def last(self, width: int, outputs: int, parts: frozenset[str]) -> nn.Module:
        return PlainFinalLayer(width, outputs)
