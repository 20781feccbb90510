"""MODELS: every model by the paper's name, a table of rows; build() turns a row into a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.models.dit import DiT
    from harness.spec import Run

CONDITIONINGS = ("adaLN-Zero", "adaLN", "cross-attention", "in-context")
TIME_FEATURES = 256  # sinusoidal features of the timestep
MLP_RATIO = 4


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


def build(run: Run) -> DiT:
    """The network of a run, with the paper's initialisation drawn from torch's default generator."""
    from harness.data import DATASETS
    from harness.models.dit import DiT  # torch only when a network is wanted: planning stays light

    data = DATASETS[run.data]
    return DiT(MODELS[run.model], run.conditioning, data.channels, data.size, data.classes)
