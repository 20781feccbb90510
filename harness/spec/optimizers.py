"""OPTIMIZERS: torch's optimizers with their settings, rows by name. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Optimizer:
    """A class of torch.optim; its lr and weight decay are the run's.

    state: names of what it keeps of each weight, which resuming needs; "step" is one number.
    """

    of: str
    state: tuple[str, ...] = ("step", "exp_avg", "exp_avg_sq")
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def copies(self) -> int:
        """Tensors as large as the weight."""
        return sum(name != "step" for name in self.state)


def adamw(beta1: float, beta2: float) -> Optimizer:
    return Optimizer("AdamW", settings={"betas": (beta1, beta2), "fused": True})


OPTIMIZERS = {
    "adamw": adamw(0.9, 0.999),  # the paper's
    "adamw-0.9-0.99": adamw(0.9, 0.99),
    "adamw-0.9-0.95": adamw(0.9, 0.95),
    "adamw-0.99-0.99": adamw(0.99, 0.99),  # U-ViT's
    "adam": Optimizer("Adam", settings={"fused": True}),  # weight decay as a part of the gradient
    "sgd": Optimizer("SGD", ("momentum_buffer",), {"momentum": 0.9, "fused": True}),
}
