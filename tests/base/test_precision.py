"""Precision is chosen for a stretch of work, and put back."""

from __future__ import annotations

import pytest
import torch

from harness.base.precision import matmul_precision


@matmul_precision("tf32")
def fail() -> None:
    assert torch.get_float32_matmul_precision() == "high"
    with matmul_precision("fp32"):
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == "high"
    raise ZeroDivisionError


def test_precision_is_put_back_also_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.get_float32_matmul_precision() == before
