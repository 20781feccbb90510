"""Gflops in the paper's convention: forward multiply-adds of one image / 1e9, counted by fvcore."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from harness.base.errors import UserError

# Traced operators that are no multiply-adds, or that fvcore itself leaves out; any other is an
# error.
FREE = {
    f"aten::{name}"
    for name in "add addcmul cos div embedding exp gelu mul silu sin unflatten".split()
}


def attention_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """softmax(QKᵀ)V is two matrix products: 2 · batch · heads · queries · keys · width."""
    q, k = (x.type().sizes() for x in inputs[:2])
    return Counter(attention=2 * q[0] * q[1] * q[2] * k[2] * q[3])


def macs(net: nn.Module, channels: int, size: int) -> Counter[str]:
    """Forward multiply-adds of one image, by module.

    Raises:
        ValueError: an operator has no count: a silent zero is how fused attention came to be 10 %
        missing.
    """
    inputs = (
        torch.zeros(1, channels, size, size),
        torch.zeros(1, dtype=torch.long),
        torch.zeros(1, dtype=torch.long),
    )
    analysis = FlopCountAnalysis(net.eval(), inputs)
    analysis.set_op_handle("aten::scaled_dot_product_attention", attention_macs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_module = analysis.by_module()
    if uncounted := set(analysis.unsupported_ops()) - FREE:
        raise UserError(
            f"{', '.join(sorted(uncounted))}: give them a handler here, or list them as free"
        )
    return Counter(
        {name or "total": int(count) for name, count in by_module.items() if "." not in name}
    )


def gflops(net: nn.Module, channels: int, size: int) -> float:
    """Forward multiply-adds of one image / 1e9: what the paper calls Gflops."""
    return macs(net, channels, size)["total"] / 1e9
