"""What any network costs, as measured: multiply-adds, parameters, memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.flops import macs
from harness.models.rows import Counts, Model, Setting


def measured(row: Model, setting: Setting) -> tuple[Counts, int]:
    """Returns the counts, and the bytes that an image keeps for the backward pass in fp32.

    The bytes come from the meta device; fvcore's tracer needs a real forward of one image, since
    convolutions and group norms on the meta device take no traced shapes.
    """
    with torch.device("meta"):
        net = row.build(setting)
    kept = kept_bytes(net, setting.shape)
    parameters = sum(p.numel() for p in net.parameters())
    net.to_empty(device="cpu")  # no initialisation: counts do not read the weights
    return Counts(macs(net, setting.shape)["total"], parameters), kept


def kept_bytes(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes of all storages that autograd saves in one forward of one sample, but for weights."""
    weights = {p.untyped_storage()._cdata for p in net.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # kept alive: an id is unique that long

    def save(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        storages[storage._cdata] = storage
        return x

    device = next(net.parameters()).device
    t = y = torch.zeros(1, dtype=torch.long, device=device)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        net.train()(torch.zeros(1, *shape, device=device), t, y)
    return sum(s.nbytes() for name, s in storages.items() if name not in weights)
