"""What any network costs, as measured: multiply-adds, parameters, memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from harness.base.errors import UserError
from harness.models.flops import macs
from harness.models.rows import Counts, Model, Setting, loss_bytes


def measured(name: str, row: Model, setting: Setting) -> tuple[Counts, int]:
    """Returns the counts, and the bytes that an image keeps for the backward pass in fp32.

    The bytes come from the meta device; fvcore's tracer needs a real forward of one image, since
    convolutions and group norms on the meta device take no traced shapes. A row that knows its
    counts is spared that forward.

    Raises:
        UserError: the network gives another shape, or numbers that are not finite; or some weights
            never get a gradient.
    """
    with torch.device("meta"):
        kept = kept_bytes(name, row.build(setting), setting)
    if (known := row.counts(setting)) is not None:
        return known, kept
    net = row.build(setting)
    with torch.no_grad():
        out = net(torch.randn(1, *setting.shape), *2 * [torch.zeros(1, dtype=torch.long)])
    if not out.isfinite().all():
        raise UserError(f"{name}: the new network gives numbers that are not finite: fix its build")
    parameters = sum(p.numel() for p in net.parameters())
    return Counts(macs(net, setting.shape)["total"], parameters), kept


def kept_bytes(name: str, net: nn.Module, setting: Setting) -> int:
    """Bytes that autograd and the loss save of one sample, but for weights.

    The network is on the meta device.

    Raises:
        UserError: it gives another shape, or some weights never get a gradient.
    """
    weights = {p.untyped_storage()._cdata for p in net.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # kept alive: an id is unique that long

    def save(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        storages[storage._cdata] = storage
        return x

    t = y = torch.zeros(1, dtype=torch.long, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        out = net.train()(torch.zeros(1, *setting.shape, device="meta"), t, y)
    check_shape(name, out, setting)
    out.sum().backward()
    if idle := [n for n, p in net.named_parameters() if p.requires_grad and p.grad is None]:
        raise UserError(
            f"{name}: {', '.join(idle)} never get a gradient: remove them, or set requires_grad to"
            " False"
        )
    saved = sum(s.nbytes() for key, s in storages.items() if key not in weights)
    return saved + loss_bytes(setting)


def check_shape(name: str, out: Tensor, setting: Setting) -> None:
    """Checks the shape of a network's output.

    Raises:
        UserError: the network's result has another shape than the objective takes.
    """
    channels, *rest = setting.shape
    if out.shape[1:] != (wanted := (setting.outputs * channels, *rest)):
        raise UserError(
            f"{name} gives {list(out.shape[1:])} of a sample {list(setting.shape)}, the objective"
            f" takes {list(wanted)}: {setting.outputs} for each channel"
        )
