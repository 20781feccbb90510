"""Rows of U-ViT: the paper's sizes and the digits', with closed-form counts. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from harness.models.dit_rows import KEPT, LIVE, narrow
from harness.models.rows import Counts, Model, Setting, loss_bytes

if TYPE_CHECKING:
    from harness.models.uvit import UViT

EXTRAS = 2  # tokens of label and timestep


@dataclass(frozen=True)
class UViTModel(Model):
    """A transformer with long skips: depth / 2 blocks, one in the middle, and depth / 2 more.

    conv: whether a 3 × 3 convolution follows the last linear layer; the released H has none.
    """

    patch: int = field(kw_only=True)
    depth: int = field(kw_only=True)
    width: int = field(kw_only=True)
    heads: int = field(kw_only=True)
    conv: bool = field(kw_only=True, default=True)

    def of_heads(self, heads: int) -> Self:
        return replace(self, width=heads * self.width // self.heads, heads=heads)

    def build(self, setting: Setting) -> UViT:
        from harness.models.uvit import UViT

        return UViT(self, setting)

    def counts(self, setting: Setting) -> Counts:
        d, layers, half = self.width, self.depth + 1, self.depth // 2
        pixels, outputs = self.patch**2 * setting.channels, setting.outputs * setting.channels
        tokens = (setting.size // self.patch) ** 2
        length = tokens + EXTRAS
        last = self.patch**2 * outputs
        macs = layers * length * (12 * d * d + 2 * length * d + 10 * d)
        macs += half * length * 2 * d * d + 5 * length * d  # skips, last norm
        macs += tokens * pixels * d + length * d * last
        held = layers * (12 * d * d + 10 * d) + half * (2 * d * d + d)
        held += (length + setting.classes + 1 + pixels + 1 + 2) * d + last * (d + 1)
        if self.conv:
            macs += 9 * outputs**2 * setting.size**2
            held += 9 * outputs**2 + outputs
        return Counts(macs, held)

    def values(self, setting: Setting) -> int:
        """Numbers of all tokens."""
        return ((setting.size // self.patch) ** 2 + EXTRAS) * self.width

    def kept_bytes(self, setting: Setting, precision: str) -> int:
        """As in DiT's in-context blocks, and two numbers more where a skip comes in."""
        short, (wide, rest) = narrow(precision), KEPT["in-context"]
        blocks = (self.depth + 1) * (4 * wide + short * rest) + self.depth // 2 * 2 * short
        return self.values(setting) * (blocks + 8 + short) + loss_bytes(setting)

    def live_bytes(self, setting: Setting, precision: str) -> int:
        """The widest moment of a block, and the tokens that later blocks take in."""
        wide, rest = LIVE
        moment = 4 * wide + narrow(precision) * rest
        return self.values(setting) * (moment + 4 * self.depth // 2)


#                      size   depth  width  heads  conv     (paper, Table 1)
PAPER_SIZES = (
    ("S", 12, 512, 8, True),
    ("S-deep", 16, 512, 8, True),
    ("M", 16, 768, 12, True),
    ("L", 20, 1024, 16, True),
    ("H", 28, 1152, 16, False),
)
# The Gflops of digit-DiT's S, B, L and XL at a patch of 2, to 6 %.
DIGIT_SIZES = (
    ("S", 2, 44, 2, True),
    ("M", 2, 60, 2, True),
    ("L", 2, 84, 4, True),
    ("H", 2, 104, 4, False),
)
FAMILIES = {"U-ViT": PAPER_SIZES, "digit-U-ViT": DIGIT_SIZES}

U_VITS = {
    f"{family}-{size}/{patch}": UViTModel(
        family, size, patch=patch, depth=depth, width=width, heads=heads, conv=conv
    )
    for family, sizes in FAMILIES.items()
    for size, depth, width, heads, conv in sizes
    for patch in (4, 2)
}
