"""Precision of matrix products: chosen for a stretch of work, then put back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiplies fp32 matrices exactly under "fp32", rounded to TF32 under any other precision."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of forward passes: bf16 where the precision says so. Backward stays outside."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
