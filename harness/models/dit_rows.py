"""Rows of DiT: the paper's sizes and the digits', with closed-form counts. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

CONDITIONINGS = ("adaLN-Zero", "adaLN", "cross-attention", "in-context")
TIME_FEATURES = 256  # sinusoidal features of the timestep
MLP_RATIO = 4


class Shape(Protocol):
    """What a network has to know of a dataset: images [channels, size, size], `classes` classes."""

    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def classes(self) -> int: ...


@dataclass(frozen=True)
class Model:
    """One row: a transformer of `depth` blocks of `width` channels over patch × patch pixels."""

    size: str
    depth: int
    width: int
    heads: int
    patch: int


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

MODELS = {
    f"{family}-{row[0]}/{patch}": Model(*row, patch=patch)
    for family, sizes in FAMILIES.items()
    for row in sizes
    for patch in PATCHES
}
# Vectors of `width` by which a block modulates its tokens: shifts and scales, with Zero also gates.
MODULATION = {"adaLN-Zero": 6, "adaLN": 4, "cross-attention": 0, "in-context": 0}
# Values that a block keeps of each token and channel for its backward pass: in fp32 whatever the
# precision (residual stream, inputs and outputs of norms), and such as autocast halves
# (projections, attention, MLP).
KEPT = {"adaLN-Zero": (4, 16), "adaLN": (4, 14), "cross-attention": (3, 17), "in-context": (2, 14)}
LIVE = (2, 11)  # the same without a backward pass: the widest moment of a block
LOSS_VALUES = 18  # fp32 values of each latent number that the loss keeps


def tokens(model: Model, shape: Shape) -> int:
    """Patches of an image."""
    return (shape.size // model.patch) ** 2


def sequence(model: Model, conditioning: str, shape: Shape) -> int:
    """Tokens that pass through the blocks: in-context adds timestep and label."""
    return tokens(model, shape) + (2 if conditioning == "in-context" else 0)


@functools.cache
def multiply_adds(model: Model, conditioning: str, shape: Shape, outputs: int = 2) -> int:
    """Counts the forward multiply-adds of one image, exactly as fvcore does."""
    d, images = model.width, tokens(model, shape)
    length = sequence(model, conditioning, shape)
    adaptive = conditioning.startswith("adaLN")
    norm = (4 if adaptive else 5) * d  # a token of a LayerNorm, without and with affine
    linear = (4 + 2 * MLP_RATIO) * d * d
    block = length * (linear + 2 * length * d + 2 * norm)
    if conditioning == "cross-attention":  # q, out and attention to t and y; k and v of these two
        block += images * (2 * d * d + 2 * 2 * d + norm) + 2 * 2 * d * d
    block += MODULATION[conditioning] * d * d
    pixels = model.patch**2 * shape.channels
    patches = images * ((1 + outputs) * d * pixels + norm)
    timestep = TIME_FEATURES * d + d * d
    final = 2 * d * d if adaptive else 0
    return model.depth * block + patches + timestep + final


def parameters(model: Model, conditioning: str, shape: Shape, outputs: int = 2) -> int:
    """Counts the parameters exactly, fixed positions included as in the paper."""
    d, pixels = model.width, model.patch**2 * shape.channels
    adaptive = conditioning.startswith("adaLN")
    block = (4 + 2 * MLP_RATIO) * d * d + (5 + MLP_RATIO) * d
    block += MODULATION[conditioning] * (d * d + d)
    if not adaptive:  # affine norms
        block += 4 * d
    if conditioning == "cross-attention":
        block += 4 * d * d + 4 * d + 2 * d
    patches = (pixels + 1) * d + tokens(model, shape) * d  # embedding and positions
    timestep = (TIME_FEATURES + 1 + d + 1) * d
    labels = (shape.classes + 1) * d
    final = (d + 1) * outputs * pixels + (2 * (d * d + d) if adaptive else 2 * d)
    return model.depth * block + patches + timestep + labels + final


def narrow(precision: str) -> int:
    """Bytes of a value that autocast may halve."""
    return 2 if precision == "bf16" else 4


def activations(model: Model, conditioning: str, shape: Shape, precision: str, images: int) -> int:
    """Bytes that a forward pass of `images` keeps for the backward pass, but for copies of weights.

    The test measures the same on the CPU by torch.autograd.graph.saved_tensors_hooks; torch.compile
    keeps less.
    """
    short, d = narrow(precision), model.width
    wide, rest = KEPT[conditioning]
    block = sequence(model, conditioning, shape) * d * (4 * wide + short * rest)
    if conditioning.startswith("adaLN"):
        block += 9 * d * short  # shifts, scales and gates: once an image, not once a token
    ends = tokens(model, shape) * d * (8 + short) + 4 * LOSS_VALUES * shape.channels * shape.size**2
    return images * (model.depth * block + ends)


def widest_moment(model: Model, shape: Shape, precision: str, images: int) -> int:
    """Peak bytes of a forward pass of `images` that keeps nothing for a backward pass."""
    wide, rest = LIVE
    values = images * tokens(model, shape) * model.width
    return values * (4 * wide + narrow(precision) * rest)
