"""What tests of networks share: built, with every weight moved, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.models import MODELS, Setting

DIGITS = Setting((1, 8, 8), 10, 1)


def built(name: str, setting: Setting = DIGITS, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return MODELS[name].build(setting).eval()


def awake(net: Any) -> Any:
    """The network after training has moved every weight."""
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    return net


def inputs(setting: Setting = DIGITS, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, *setting.shape), torch.randint(1000, (n,)), torch.randint(10, (n,))


def saved_bytes(net: Any, *given: Tensor, **more: Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, the weights themselves left out."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        found[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        net(*given, **more)
    return sum(storage.nbytes() for key, storage in found.items() if key not in weights)
