"""Lets torchvision be imported beside a torch its binary was not built for.

Import this before anything that needs torchvision: torch-fidelity and diffusers' AutoencoderKL. The
wheel on the package index is built for CUDA. Next to a CPU-only torch its binary does not load,
`nms` and `qnms` are never declared, and the import fails on them. Their schemas are enough for the
import; nothing here calls them. Where the binary loads nothing is done.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch


def binary_loads(package: Path) -> bool:
    """Whether torchvision's compiled operators fit this torch."""
    try:
        torch.ops.load_library(str(next(package.glob("_C*"))))
    except (OSError, StopIteration):
        return False
    return True


# Found without importing it: a failed import cannot be repeated.
SPEC = find_spec("torchvision")
if SPEC is not None and SPEC.origin is not None and not binary_loads(Path(SPEC.origin).parent):
    LIBRARY = torch.library.Library("torchvision", "DEF")  # its schemas live as long as it does
    for operator in ("nms", "qnms"):
        LIBRARY.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
