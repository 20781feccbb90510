"""muP: how initial weights and learning rates follow the width; None is the standard one."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.models import Model
from harness.models.rows import BASE_HEADS
from harness.spec import Run


class Growth(NamedTuple):
    """How many times as wide a weight is as at the base width; 1 where that does not grow."""

    fan_in: float
    fan_out: float


def linear_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights that multiply activations, by name: [fan_out, fan_in, ...].

    All others (biases, embeddings, positions, norms, tables) are vectors: in one dimension at most
    they grow with the width, and no sum runs over it.
    """
    return {
        f"{name}.weight": module.weight
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d)
    }


def growths(net: nn.Module, run: Run) -> dict[str, Growth]:
    """The growth of every linear weight of a run's network against the row's base width."""
    of_base = unbuilt(run.model_row.base, run)
    return {
        name: Growth(weight[0].numel() / of_base[name][0].numel(), len(weight) / len(of_base[name]))
        for name, weight in linear_weights(net).items()
    }


def unbuilt(row: Model | None, run: Run) -> dict[str, Tensor]:
    """The linear weights of a row, without their numbers."""
    assert row is not None, "Run refuses it"
    with torch.device("meta"):
        return linear_weights(row.build(run.setting))


def outputs(run: Run) -> set[str]:
    """The names of the weights that sum over the width and do not grow with it."""
    at_base, wider = (unbuilt(run.model_row.of_heads(k * BASE_HEADS), run) for k in (1, 2))
    return {
        name
        for name, weight in wider.items()
        if len(weight) == len(at_base[name]) and weight.shape != at_base[name].shape
    }


@torch.no_grad()
def scale_weights(net: nn.Module, run: Run) -> None:
    """Gives the initial weights of the standard parametrization the deviations of muP, in place.

    Input weights have that of the base width, hidden ones fall as fan_in^-1/2 from it (Yang et al.
    2022, arXiv 2203.03466, table 3). Output ones and all biases are zero, at the base width too, as
    in the code of arXiv 2505.15270: the sum of random output weights falls as fan_in^-1/2, so that
    narrow networks would begin by unlearning it. What is zero stays zero.
    """
    if run.parametrization is None:
        return
    found, row, zero = growths(net, run), run.model_row, outputs(run)
    for name, weight in linear_weights(net).items():
        grown, fans = found[name], (weight[0].numel(), len(weight))
        at_base = (round(fans[0] / grown.fan_in), round(fans[1] / grown.fan_out))
        kept = row.deviation(name, *at_base) / row.deviation(name, *fans)
        weight.mul_(0.0 if name in zero else kept * grown.fan_in**-0.5)
    for name, vector in net.named_parameters():
        if name.endswith(".bias") and f"{name.removesuffix('bias')}weight" in found:
            vector.zero_()


def groups(net: nn.Module, run: Run) -> list[dict[str, Any]]:
    """The optimizer's groups of parameters: "growth" is what divides the run's lr.

    Under muP it is the growth of the fan-in, for hidden and output weights alike: with Adam, a
    forward multiplier of 1 / width on the output with the lr of vectors is the same. The decay
    of a step, lr times weight_decay, is that of the standard one.
    """
    grown = growths(net, run) if run.parametrization else {}
    found: dict[float, list[nn.Parameter]] = {}
    for name, weight in net.named_parameters():
        if weight.requires_grad:
            growth = grown[name].fan_in if name in grown else 1.0
            found.setdefault(growth, []).append(weight)
    return [
        {
            "params": weights,
            "growth": growth,
            "lr": run.lr / growth,
            "weight_decay": run.weight_decay * growth,
        }
        for growth, weights in found.items()
    ]
