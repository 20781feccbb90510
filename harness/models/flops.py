"""Gflops in the paper's convention: forward multiply-adds of one image / 1e9, counted by fvcore."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from harness.base.errors import UserError

# Traced operators without multiply-adds, or left out by fvcore itself; any other is an error.
FREE = {
    f"aten::{name}"
    for name in (
        "add addcmul avg_pool2d clamp cos div embedding exp floor_divide gelu index_select lt"
        " movedim mul remainder silu sin sub unflatten"
    ).split()
}


def attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Counts softmax(QKᵀ)V as two matrix products: 2 · batch · heads · queries · keys · width."""
    q, k = (x.type().sizes() for x in inputs[:2])
    return Counter(attention=2 * q[0] * q[1] * q[2] * k[2] * q[3])


def rms_norm_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Counts RMSNorm as fvcore counts LayerNorm, without its mean: 2 a number, 3 with weights.

    fvcore's 4 and 5 are mean, centring, square and scale, and the affine part.
    """
    count = math.prod(inputs[0].type().sizes())
    weighted = inputs[2].type().kind() == "TensorType"
    return Counter(norm=(3 if weighted else 2) * count)


@torch.no_grad()  # attention is one operator then, whether or not a bias learns
def macs(net: nn.Module, shape: tuple[int, ...]) -> Counter[str]:
    """Counts the forward multiply-adds of one sample of that shape, by module.

    Raises:
        UserError: an operator has no count; as zero, fused attention once was 10 % short.
    """
    device = next(net.parameters(), torch.zeros(0)).device
    t = y = torch.zeros(1, dtype=torch.long, device=device)
    inputs = (torch.zeros(1, *shape, device=device), t, y)
    analysis = FlopCountAnalysis(net.eval(), inputs)
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention_macs)
    analysis.set_op_handle("aten::rms_norm", rms_norm_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_module = analysis.by_module()
    if uncounted := set(analysis.unsupported_ops()) - FREE:
        raise UserError(
            f"{', '.join(sorted(uncounted))}: give them a handler here, or list them as free"
        )
    return Counter(
        {name or "total": int(count) for name, count in by_module.items() if "." not in name}
    )
