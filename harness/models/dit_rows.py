"""Rows of DiT: the paper's sizes and the digits', variants, and closed-form counts. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from harness.models.rows import Counts, Model, Setting, loss_bytes

if TYPE_CHECKING:
    from harness.models.dit import DiT

# The paper's four, and DiffiT's attention in place of their modulation.
CONDITIONINGS = ("adaLN-Zero", "adaLN", "cross-attention", "in-context", "TMSA")
MODERN = ("qk-norm", "rope", "swiglu", "rmsnorm")
# Other networks of the same size: one idea each, and those combinations that others have trained.
VARIANTS: dict[str, tuple[str, ...]] = {
    "long-skips": ("long-skips",),  # U-ViT's
    "relative-bias": ("relative-bias",),  # MDT's and DiffiT's
    "learned-positions": ("learned-positions",),
    "mdt-positions": ("learned-positions", "relative-bias"),
    **{name: (name,) for name in MODERN},
    "modern": MODERN,  # the block of language models, as in LightningDiT
}
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

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(VARIANTS)

    def of_heads(self, heads: int) -> Self:
        return replace(self, width=heads * self.width // self.heads, heads=heads)

    def deviation(self, name: str, fan_in: int, fan_out: int) -> float:
        """Xavier's, but for the embedders of timestep and label: see DiT.initialize."""
        fixed = name.startswith(("t_embedder", "y_embedder"))
        return 1.0 if fixed else (fan_in + fan_out) ** -0.5

    def problem(self, setting: Setting) -> str | None:
        parts, conditioning = parts_of(setting), conditioning_of(setting)
        if conditioning == "in-context" and (grid := parts & {"relative-bias", "rope"}):
            return (
                f"{', '.join(sorted(grid))} needs a place in the grid, which in-context's tokens of"
                " timestep and label have not: take another conditioning"
            )
        if "long-skips" in parts and self.depth < 2:
            return f"long-skips needs 2 blocks, {self.family}-{self.size} has {self.depth}"
        return super().problem(setting)

    def build(self, setting: Setting) -> DiT:
        from harness.models.dit import DiT

        return DiT(self, setting)

    def counts(self, setting: Setting) -> Counts:
        return Counts(multiply_adds(self, setting), parameters(self, setting))

    def kept_bytes(self, setting: Setting, precision: str) -> int | None:
        return None if parts_of(setting) else activations(self, setting, precision)

    def live_bytes(self, setting: Setting, precision: str) -> int | None:
        return None if parts_of(setting) else widest_moment(self, setting, precision)


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
MODULATION = {"adaLN-Zero": 6, "adaLN": 4, "cross-attention": 0, "in-context": 0, "TMSA": 0}
# Values that a block keeps of each token and channel for its backward pass: in fp32 whatever the
# precision (residual stream, inputs and outputs of norms), and such as autocast halves
# (projections, attention, MLP).
KEPT = {
    "adaLN-Zero": (4, 16),
    "adaLN": (4, 14),
    "cross-attention": (3, 17),
    "in-context": (2, 14),
    "TMSA": (2, 14),
}
LIVE = (3, 9)  # the same without a backward pass: the widest moment of a block


def conditioning_of(setting: Setting) -> str:
    """The conditioning of a setting, the paper's where it names none."""
    return setting.conditioning or CONDITIONINGS[0]


def parts_of(setting: Setting) -> frozenset[str]:
    """What the variant of a setting changes."""
    return frozenset(VARIANTS.get(setting.variant or "", ()))


def is_adaptive(setting: Setting) -> bool:
    """Whether timestep and label are one vector, and norms have no weights."""
    return conditioning_of(setting) not in ("cross-attention", "in-context")


def gated_width(width: int) -> int:
    """The hidden width of SwiGLU: two thirds of the MLP's, a multiple of 8 for the GPU."""
    return -(-2 * MLP_RATIO * width // 24) * 8


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
    adaptive, parts = is_adaptive(setting), parts_of(setting)
    norm = norm_macs(d, parts, not adaptive)
    mlp = 3 * gated_width(d) * d if "swiglu" in parts else 2 * MLP_RATIO * d * d
    block = length * (4 * d * d + mlp + 2 * length * d + 2 * norm)
    if "qk-norm" in parts:
        block += length * 2 * norm_macs(d, frozenset({"rmsnorm"}), True)
    if setting.conditioning == "cross-attention":  # q, out and attention to t and y; k, v of both
        block += images * (2 * d * d + 2 * 2 * d + norm) + 2 * 2 * d * d
    block += vectors(setting) * d * d
    skips = model.depth // 2 * length * 2 * d * d if "long-skips" in parts else 0
    pixels = model.patch**2 * setting.channels
    patches = images * ((1 + setting.outputs) * d * pixels + norm)
    timestep = TIME_FEATURES * d + d * d
    final = 2 * d * d if adaptive else 0
    return model.depth * block + skips + patches + timestep + final


def norm_macs(width: int, parts: frozenset[str], affine: bool) -> int:
    """Multiply-adds of a token's norm, as fvcore counts LayerNorm; RMSNorm has no mean."""
    return ((2 if "rmsnorm" in parts else 4) + affine) * width


def vectors(setting: Setting) -> int:
    """Vectors of `width` that each block makes of the condition; TMSA's are of q, k and v."""
    conditioning = conditioning_of(setting)
    return 3 if conditioning == "TMSA" else MODULATION[conditioning]


def parameters(model: DiTModel, setting: Setting) -> int:
    """Counts the parameters exactly, fixed positions included as in the paper."""
    d, pixels = model.width, model.patch**2 * setting.channels
    adaptive, parts = is_adaptive(setting), parts_of(setting)
    hidden = gated_width(d) if "swiglu" in parts else MLP_RATIO * d
    inner = 2 * hidden if "swiglu" in parts else hidden
    block = 4 * d * d + 4 * d + inner * (d + 1) + hidden * d + d
    norm = d if "rmsnorm" in parts else 2 * d  # with affine
    block += vectors(setting) * (d * d + d)
    if "relative-bias" in parts:
        block += (2 * (setting.size // model.patch) - 1) ** 2 * model.heads
    if not adaptive:
        block += 2 * norm
    if "qk-norm" in parts:
        block += 2 * d // model.heads
    if setting.conditioning == "cross-attention":
        block += 4 * d * d + 4 * d + norm
    patches = (pixels + 1) * d + tokens(model, setting) * d  # embedding and positions
    timestep = (TIME_FEATURES + 1 + d + 1) * d
    labels = (setting.classes + 1) * d
    final = (d + 1) * setting.outputs * pixels + (2 * (d * d + d) if adaptive else norm)
    skips = model.depth // 2 * (2 * d * d + d) if "long-skips" in parts else 0
    return model.depth * block + skips + patches + timestep + labels + final


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
