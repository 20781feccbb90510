"""What any network costs, measured on the meta device: multiply-adds, parameters, memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.models.flops import macs
from harness.models.rows import Counts, Model, Setting


def measured(row: Model, setting: Setting) -> tuple[Counts, int]:
    """Returns the counts, and the bytes that an image keeps for the backward pass in fp32.

    Nothing is computed or allocated, so that the largest network takes a second. One that has
    convolutions and no closed form is run once on the CPU: torch 2.13 cannot trace them on the meta
    device, and raises a TypeError.
    """
    with torch.device("meta"):
        net = row.build(setting)
    kept = kept_bytes(net, setting.shape)
    if (counts := row.counts(setting)) is not None:
        return counts, kept
    parameters = sum(p.numel() for p in net.parameters())
    try:
        count = macs(net, setting.shape)
    except TypeError:
        count = macs(row.build(setting), setting.shape)
    return Counts(count["total"], parameters), kept


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
