"""Precision of matrix products: chosen for a stretch of work, then put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiplies fp32 matrices exactly under "fp32", rounded to TF32 under any other precision.

    Convolutions too: cuDNN's round to TF32 by default, whatever the precision of matrices is.
    """
    cudnn: Any = torch.backends.cudnn
    conv = cudnn.conv
    before = torch.get_float32_matmul_precision(), conv.fp32_precision
    exact = precision == "fp32"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    conv.fp32_precision = "ieee" if exact else "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        conv.fp32_precision = before[1]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of forward passes: bf16 where the precision says so. Backward stays outside."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
