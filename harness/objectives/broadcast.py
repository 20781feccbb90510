"""Numbers per sample, shaped so that they broadcast over images or clips."""

from __future__ import annotations

from torch import Tensor


def each(values: Tensor, x: Tensor) -> Tensor:
    """Returns values [N] as [N, 1, 1, …], with as many axes as x [N, C, …]."""
    return values.view(-1, *[1] * (x.ndim - 1))
