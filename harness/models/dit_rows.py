"""DiT's rows: the paper's sizes and the digits', and their counts in closed form. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

CONDITIONINGS = ("adaLN-Zero", "adaLN", "cross-attention", "in-context")
TIME_FEATURES = 256  # sinusoidal features of the timestep
MLP_RATIO = 4


class Shape(Protocol):
    """What a network needs to know of a dataset: images [channels, size, size] of `classes` classes."""

    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def classes(self) -> int: ...


@dataclass(frozen=True)
class Model:
    """One row: a transformer of `depth` blocks of `width` channels over patches of patch × patch."""

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
PATCHES = (8, 4, 2)

MODELS = {
    f"{family}-{row[0]}/{patch}": Model(*row, patch=patch)
    for family, sizes in (("DiT", PAPER_SIZES), ("mini-DiT", MINI_SIZES))
    for row in sizes
    for patch in PATCHES
}
# What a block keeps of each token and channel for its backward pass: values in fp32 whatever the precision (residual
# stream, what norms read and give), and values that autocast halves (projections, attention, MLP).
KEPT = {"adaLN-Zero": (4, 16), "adaLN": (4, 14), "cross-attention": (3, 17), "in-context": (2, 14)}
LIVE = (2, 11)  # the same without a backward pass: the widest moment of a block
LOSS_VALUES = 18  # fp32 values of each latent number that the loss keeps


@functools.cache
def multiply_adds(model: Model, conditioning: str, shape: Shape) -> int:
    """Forward multiply-adds of one image, exactly as fvcore counts them."""
    d, patch, tokens = model.width, model.patch, (shape.size // model.patch) ** 2
    seen = tokens + 2 * (
        conditioning == "in-context"
    )  # the two extra tokens pass through every block
    linear = (4 + 2 * MLP_RATIO) * d * d
    adaptive = conditioning.startswith("adaLN")
    norm = (
        4 if adaptive else 5
    ) * d  # fvcore's count for a LayerNorm without and with affine, a token
    block = seen * (linear + 2 * seen * d + 2 * norm)
    if conditioning == "cross-attention":
        block += (
            tokens * (2 * d * d + 2 * 2 * d + norm) + 2 * 2 * d * d
        )  # q and out, attention to t and y; k and v
    block += {"adaLN-Zero": 6, "adaLN": 4}.get(conditioning, 0) * d * d
    ends = (
        tokens * (3 * d * patch * patch * shape.channels + norm)
        + TIME_FEATURES * d
        + d * d
        + 2 * d * d * adaptive
    )
    return model.depth * block + ends


def parameters(model: Model, conditioning: str, shape: Shape) -> int:
    """The number of parameters, exactly, fixed positions included as in the paper's counts."""
    d, patch, tokens = model.width, model.patch, (shape.size // model.patch) ** 2
    adaptive = conditioning.startswith("adaLN")
    block = (4 + 2 * MLP_RATIO) * d * d + (5 + MLP_RATIO) * d
    block += {"adaLN-Zero": 6, "adaLN": 4}.get(conditioning, 0) * (d * d + d) + (
        0 if adaptive else 4 * d
    )
    if conditioning == "cross-attention":
        block += 4 * d * d + 4 * d + 2 * d
    pixels = patch * patch * shape.channels
    embed = (
        (pixels + 1) * d + (TIME_FEATURES + 1 + d + 1) * d + (shape.classes + 1) * d + tokens * d
    )
    final = (d + 1) * 2 * pixels + (2 * (d * d + d) if adaptive else 2 * d)
    return model.depth * block + embed + final


def narrow(precision: str) -> int:
    return 2 if precision == "bf16" else 4


def activations(model: Model, conditioning: str, shape: Shape, precision: str, images: int) -> int:
    """What a forward pass of `images` keeps for the backward pass, but for copies of weights.

    The test measures the same on the CPU through torch.autograd.graph.saved_tensors_hooks. torch.compile keeps less.
    """
    short = narrow(precision)
    d, tokens = model.width, (shape.size // model.patch) ** 2
    seen = tokens + 2 * (conditioning == "in-context")
    wide, rest = KEPT[conditioning]
    block = seen * d * (4 * wide + short * rest)
    if conditioning.startswith("adaLN"):
        block += 9 * d * short  # shifts, scales and gates: once an image, not once a token
    ends = tokens * d * (8 + short) + 4 * LOSS_VALUES * shape.channels * shape.size**2
    return images * (model.depth * block + ends)


def widest_moment(model: Model, shape: Shape, precision: str, images: int) -> int:
    """Bytes of a forward pass of `images` at its widest moment, where nothing is kept for a backward pass."""
    wide, rest = LIVE
    tokens = (shape.size // model.patch) ** 2
    return images * tokens * model.width * (4 * wide + narrow(precision) * rest)
