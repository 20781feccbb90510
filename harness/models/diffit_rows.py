"""Rows of latent DiffiT: the paper's network, DiT's smaller sizes and the digits'. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.models import dit_rows
from harness.models.dit_rows import DiTModel
from harness.models.rows import Counts, Setting

if TYPE_CHECKING:
    from harness.models.diffit import DiffiT


def as_dit(setting: Setting) -> Setting:
    """The variant of DiT whose blocks are DiffiT's."""
    return replace(setting, conditioning="TMSA", variant="relative-bias")


@dataclass(frozen=True)
class DiffiTModel(DiTModel):
    """DiT with DiffiT's attention and relative biases, whose final layer is not modulated."""

    @property
    def conditionings(self) -> tuple[str, ...]:
        return ()

    @property
    def variants(self) -> tuple[str, ...]:
        return ()

    def build(self, setting: Setting) -> DiffiT:
        from harness.models.diffit import DiffiT

        return DiffiT(self, as_dit(setting))

    def counts(self, setting: Setting) -> Counts:
        dit, d = as_dit(setting), self.width
        modulation = 2 * d * d  # of DiT's final layer
        return Counts(
            dit_rows.multiply_adds(self, dit) - modulation,
            dit_rows.parameters(self, dit) - modulation - 2 * d,
        )

    def kept_bytes(self, setting: Setting, precision: str) -> int | None:
        return None

    def live_bytes(self, setting: Setting, precision: str) -> int | None:
        return None


# XL is the paper's; its appendix says 30 blocks, its 561M parameters are those of 28.
FAMILIES = {
    "DiffiT": dit_rows.PAPER_SIZES,
    # The Gflops of digit-DiT's sizes at a patch of 2, to 2 %.
    "digit-DiffiT": dit_rows.DIGIT_SIZES,
}

DIFFITS = {
    f"{family}-{size}/2": DiffiTModel(family, size, patch=2, depth=depth, width=width, heads=heads)
    for family, sizes in FAMILIES.items()
    for size, depth, width, heads in sizes
}
