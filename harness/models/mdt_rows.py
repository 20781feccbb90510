"""Rows of MDT and MDTv2: the papers' sizes and the digits', with closed-form counts. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.models import dit_rows
from harness.models.dit_rows import DiTModel
from harness.models.rows import Counts, Setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.models.mdt import MDT

SPARE = 3  # rows of the bias table that nothing reads, as released
# Shares of the tokens that the second pass of a training step hides: always the first in MDT, in
# MDTv2 one draw a step between both.
HIDDEN = {1: (0.3, 0.3), 2: (0.3, 0.5)}


def as_dit(setting: Setting) -> Setting:
    """The variant of DiT whose blocks are MDT's."""
    return replace(setting, variant="mdt-positions")


@dataclass(frozen=True)
class MDTModel(DiTModel):
    """DiT with learned positions, relative biases, and a masked pass beside the full one.

    decode: blocks after the masked tokens are filled in; in version 2 the others have long skips.
    """

    version: int = field(kw_only=True)
    decode: int = field(kw_only=True)

    @property
    def conditionings(self) -> tuple[str, ...]:
        return ()

    @property
    def variants(self) -> tuple[str, ...]:
        return ()

    @property
    def linears(self) -> int:
        """Blocks that take in other tokens: the second half of the encoder, and the decoder."""
        return (self.depth - self.decode) // 2 + self.decode if self.version == 2 else 0

    def problem(self, setting: Setting) -> str | None:
        if fault := super().problem(setting):
            return fault
        if not self.seen(setting, HIDDEN[self.version][1]):
            return f"masking leaves no token of {dit_rows.tokens(self, setting)}"
        return None

    def build(self, setting: Setting) -> MDT:
        from harness.models.mdt import MDT

        return MDT(self, as_dit(setting))

    def counts(self, setting: Setting) -> Counts:
        dit, d = as_dit(setting), self.width
        tokens = dit_rows.tokens(self, setting)
        macs = dit_rows.multiply_adds(self, dit) + self.linears * tokens * 2 * d * d
        held = dit_rows.parameters(self, dit) + self.linears * (2 * d * d + d)
        bias = (2 * (setting.size // self.patch) - 1) ** 2 * self.heads
        held += 18 * d * d + 15 * d + bias  # the side block
        held += SPARE * self.heads * (self.depth + 1) + tokens * d + d
        return Counts(macs, held)

    def seen(self, setting: Setting, hidden: float) -> int:
        """Tokens that the masked pass sees where that share is hidden."""
        return int(dit_rows.tokens(self, setting) * (1 - hidden))

    def passes(self, setting: Setting) -> float:
        """The full pass and the masked one, at the mean of what it hides."""
        d, tokens = self.width, dit_rows.tokens(self, setting)
        seen = self.seen(setting, sum(HIDDEN[self.version]) / 2)

        def block(length: int) -> int:
            return length * (12 * d * d + 2 * length * d + 8 * d) + 6 * d * d

        full = self.counts(setting).macs
        skips = (self.linears - self.decode) * 2 * d * d if self.linears else 0
        saved = (self.depth - self.decode) * (block(tokens) - block(seen)) + skips * (tokens - seen)
        return (2 * full - saved + block(tokens)) / full

    def visible(
        self, setting: Setting, low: int, high: int, device: torch.device, *key: object
    ) -> Tensor:
        from harness.models.mdt import visible

        return visible(self, setting, low, high, device, *key)

    def kept_bytes(self, setting: Setting, precision: str) -> int:
        """DiT's of both passes, and the biases of masked samples, which are gathered by sample."""
        tokens = dit_rows.tokens(self, setting)
        seen = self.seen(setting, HIDDEN[self.version][0])
        biases = self.depth * self.heads * seen**2 * (4 + dit_rows.narrow(precision))
        dit = dit_rows.activations(self, replace(setting, variant=None), precision)
        skips = self.linears * 2 * tokens * self.width * dit_rows.narrow(precision)
        return round((dit + skips) * self.passes(setting)) + biases

    def live_bytes(self, setting: Setting, precision: str) -> int:
        return dit_rows.widest_moment(self, setting, precision)


#                      size  depth  width  heads  decode
V1_SIZES = tuple((*row, 2) for row in dit_rows.PAPER_SIZES)
V2_SIZES = tuple(
    (*row, decode) for row, decode in zip(dit_rows.PAPER_SIZES, (6, 6, 4, 4), strict=True)
)
# The Gflops of digit-DiT's sizes at a patch of 2, to 6 %.
V1_DIGITS = (("S", 2, 56, 4, 1), ("B", 2, 80, 5, 1), ("L", 2, 112, 7, 1), ("XL", 3, 112, 7, 1))
V2_DIGITS = (("S", 3, 44, 2, 1), ("B", 3, 60, 3, 1), ("L", 3, 88, 4, 1), ("XL", 3, 108, 4, 1))
FAMILIES = {
    "MDTv1": (1, V1_SIZES),
    "MDTv2": (2, V2_SIZES),
    "digit-MDTv1": (1, V1_DIGITS),
    "digit-MDTv2": (2, V2_DIGITS),
}

MDTS = {
    f"{family}-{size}/2": MDTModel(
        family,
        size,
        patch=2,
        depth=depth,
        width=width,
        heads=heads,
        version=version,
        decode=decode,
    )
    for family, (version, sizes) in FAMILIES.items()
    for size, depth, width, heads, decode in sizes
}
