"""Networks: MODELS, every model by the paper's name; build() makes a network of a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.models.dit_rows import CONDITIONINGS, MODELS, Model, Shape

if TYPE_CHECKING:
    from harness.models.dit import DiT

__all__ = ["CONDITIONINGS", "MODELS", "Model", "Shape", "build"]


def build(model: Model, conditioning: str, shape: Shape, outputs: int = 2) -> DiT:
    """Builds the network of a row, initialised from torch's default generator as in the paper.

    outputs: channels of the result for each one of the data.
    """
    from harness.models.dit import DiT  # torch only when a network is wanted: planning stays light

    return DiT(model, conditioning, shape.channels, shape.size, shape.classes, outputs)
