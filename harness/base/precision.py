"""Precision of products and order of sums: set for a block of code, then restored."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from harness.base.errors import UserError

UNORDERED = "does not have a deterministic implementation"  # torch's words

# Read with the first product of a process; without it torch refuses those of repeatable(). On an
# H100 it is what cuBLAS takes anyway, 32 MB.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Multiplies fp32 matrices exactly under "fp32", rounded to TF32 under any other precision.

    Convolutions too: cuDNN's round to TF32 by default, whatever the precision of matrices is. That
    of matrices is set by the older call alone, which sets the newer `cuda.matmul.fp32_precision`
    as well: torch refuses to multiply on a GPU where the two differ.
    """
    backends: Any = torch.backends
    convs = backends.cudnn.conv, backends.mkldnn.conv
    before = torch.get_float32_matmul_precision(), [conv.fp32_precision for conv in convs]
    exact = precision == "fp32"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    for conv in convs:
        conv.fp32_precision = "ieee" if exact else "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        for conv, value in zip(convs, before[1], strict=True):
            conv.fp32_precision = value


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of forward passes: bf16 where the precision says so. Backward stays outside."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@contextlib.contextmanager
def repeatable(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """On a GPU, takes kernels that add in one order alone, so that a step repeats to the bit.

    By default the backward passes of attention, flash and memory-efficient, add up the gradient of
    the queries in the order in which their blocks end; torch's strict mode alone changes that.

    Raises:
        UserError: within, a kernel has no such order.
    """
    if device.type != "cuda" or not wanted:
        yield
        return
    settings: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("error")
    settings.fill_uninitialized_memory = False  # a pass over each new tensor, to find bugs
    try:
        yield
    except RuntimeError as error:
        if UNORDERED not in str(error):
            raise
        kernel = str(error).partition(UNORDERED)[0].strip()
        raise UserError(
            f"{kernel} adds in any order on a GPU, so that steps do not repeat to the bit: take"
            " another layer, or set repeatable = false in the cluster file"
        ) from None
    finally:
        torch.set_deterministic_debug_mode(before[0])
        settings.fill_uninitialized_memory = before[1]
