"""Rows of DiT: the paper's sizes and the digits', with closed-form counts. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.models.rows import Counts, Model, Setting, loss_bytes

if TYPE_CHECKING:
    from harness.models.dit import DiT

CONDITIONINGS = ("adaLN-Zero", "adaLN", "cross-attention", "in-context")
TIME_FEATURES = 256  # sinusoidal features of the timestep
MLP_RATIO = 4


@dataclass(frozen=True)
class DiTModel(Model):
    """A transformer of `depth` blocks of `width` channels over patch × patch pixels."""

    patch: int = field(kw_only=True)
    depth: int = field(kw_only=True)
    width: int = field(kw_only=True)
    heads: int = field(kw_only=True)

    @property
    def conditionings(self) -> tuple[str, ...]:
        return CONDITIONINGS

    def build(self, setting: Setting) -> DiT:
        from harness.models.dit import DiT

        return DiT(self, setting)

    def counts(self, setting: Setting) -> Counts:
        return Counts(multiply_adds(self, setting), parameters(self, setting))

    def kept_bytes(self, setting: Setting, precision: str) -> int:
        return activations(self, setting, precision)

    def live_bytes(self, setting: Setting, precision: str) -> int:
        return widest_moment(self, setting, precision)


#                      size  depth  width  heads      (paper, Table 1)
PAPER_SIZES = (
    ("S", 12, 384, 6),
    ("B", 12, 768, 12),
    ("L", 24, 1024, 16),
    ("XL", 28, 1152, 16),
)
# The same ladder for 16 × 16 digits: small enough that all twelve train on a laptop in minutes.
MINI_SIZES = (
    ("S", 2, 32, 2),
    ("B", 3, 48, 3),
    ("L", 4, 64, 4),
    ("XL", 5, 80, 5),
)
# For the native 8 × 8 digits. A patch of 8 × 8 has 64 numbers, which have to pass through a token
# of `width`: at 64 the LayerNorms take two of them, and S/8 made noise (docs/digits.md).
DIGIT_SIZES = (
    ("S", 1, 80, 5),
    ("B", 1, 112, 7),
    ("L", 2, 112, 7),
    ("XL", 3, 112, 7),
)
PATCHES = (8, 4, 2)

FAMILIES = {"DiT": PAPER_SIZES, "mini-DiT": MINI_SIZES, "digit-DiT": DIGIT_SIZES}

DITS = {
    f"{family}-{size}/{patch}": DiTModel(
        family, size, patch=patch, depth=depth, width=width, heads=heads
    )
    for family, sizes in FAMILIES.items()
    for size, depth, width, heads in sizes
    for patch in PATCHES
}
# Vectors of `width` by which a block modulates its tokens: shifts and scales, with Zero also gates.
MODULATION = {"adaLN-Zero": 6, "adaLN": 4, "cross-attention": 0, "in-context": 0}
# Values that a block keeps of each token and channel for its backward pass: in fp32 whatever the
# precision (residual stream, inputs and outputs of norms), and such as autocast halves
# (projections, attention, MLP).
KEPT = {"adaLN-Zero": (4, 16), "adaLN": (4, 14), "cross-attention": (3, 17), "in-context": (2, 14)}
LIVE = (2, 11)  # the same without a backward pass: the widest moment of a block


def conditioning_of(setting: Setting) -> str:
    """The conditioning of a setting, the paper's where it names none."""
    return setting.conditioning or CONDITIONINGS[0]


def tokens(model: DiTModel, setting: Setting) -> int:
    """Patches of an image."""
    return (setting.size // model.patch) ** 2


def sequence(model: DiTModel, setting: Setting) -> int:
    """Tokens that pass through the blocks: in-context adds timestep and label."""
    return tokens(model, setting) + (2 if setting.conditioning == "in-context" else 0)


@functools.cache
def multiply_adds(model: DiTModel, setting: Setting) -> int:
    """Counts the forward multiply-adds of one image, exactly as fvcore does."""
    d, images = model.width, tokens(model, setting)
    length = sequence(model, setting)
    adaptive = conditioning_of(setting).startswith("adaLN")
    norm = (4 if adaptive else 5) * d  # a token of a LayerNorm, without and with affine
    linear = (4 + 2 * MLP_RATIO) * d * d
    block = length * (linear + 2 * length * d + 2 * norm)
    if setting.conditioning == "cross-attention":  # q, out and attention to t and y; k, v of both
        block += images * (2 * d * d + 2 * 2 * d + norm) + 2 * 2 * d * d
    block += MODULATION[conditioning_of(setting)] * d * d
    pixels = model.patch**2 * setting.channels
    patches = images * ((1 + setting.outputs) * d * pixels + norm)
    timestep = TIME_FEATURES * d + d * d
    final = 2 * d * d if adaptive else 0
    return model.depth * block + patches + timestep + final


def parameters(model: DiTModel, setting: Setting) -> int:
    """Counts the parameters exactly, fixed positions included as in the paper."""
    d, pixels = model.width, model.patch**2 * setting.channels
    adaptive = conditioning_of(setting).startswith("adaLN")
    block = (4 + 2 * MLP_RATIO) * d * d + (5 + MLP_RATIO) * d
    block += MODULATION[conditioning_of(setting)] * (d * d + d)
    if not adaptive:  # affine norms
        block += 4 * d
    if setting.conditioning == "cross-attention":
        block += 4 * d * d + 4 * d + 2 * d
    patches = (pixels + 1) * d + tokens(model, setting) * d  # embedding and positions
    timestep = (TIME_FEATURES + 1 + d + 1) * d
    labels = (setting.classes + 1) * d
    final = (d + 1) * setting.outputs * pixels + (2 * (d * d + d) if adaptive else 2 * d)
    return model.depth * block + patches + timestep + labels + final


def narrow(precision: str) -> int:
    """Bytes of a value that autocast may halve."""
    return 2 if precision == "bf16" else 4


def activations(model: DiTModel, setting: Setting, precision: str) -> int:
    """Bytes that a forward pass of an image keeps for the backward pass, but for copies of weights.

    The test measures the same on the CPU by torch.autograd.graph.saved_tensors_hooks; torch.compile
    keeps less.
    """
    short, d = narrow(precision), model.width
    wide, rest = KEPT[conditioning_of(setting)]
    block = sequence(model, setting) * d * (4 * wide + short * rest)
    if conditioning_of(setting).startswith("adaLN"):
        block += 9 * d * short  # shifts, scales and gates: once an image, not once a token
    ends = tokens(model, setting) * d * (8 + short)
    return model.depth * block + ends + loss_bytes(setting)


def widest_moment(model: DiTModel, setting: Setting, precision: str) -> int:
    """Peak bytes of a forward pass of an image that keeps nothing for a backward pass."""
    wide, rest = LIVE
    values = tokens(model, setting) * model.width
    return values * (4 * wide + narrow(precision) * rest)
