"""Lets torchvision be imported beside a torch its binary was not built for; import this before anything that needs it.

The wheel on the package index is built for CUDA. Next to a CPU-only torch its binary does not load,
`nms` and `qnms` are never declared, and torchvision dies on them, with it torch-fidelity and
diffusers' AutoencoderKL. Their schemas are enough for the import; nobody here calls them. Where the
binary loads nothing is done.
"""

from importlib.util import find_spec
from pathlib import Path

import torch


def _binary_loads(package: Path) -> bool:
    try:
        torch.ops.load_library(str(next(package.glob("_C*"))))
    except (OSError, StopIteration):
        return False
    return True


_spec = find_spec(
    "torchvision"
)  # looks the package up without importing it: a failed import could not be repeated
if _spec is not None and _spec.origin is not None and not _binary_loads(Path(_spec.origin).parent):
    LIBRARY = torch.library.Library("torchvision", "DEF")  # schemas live as long as this object
    for _name in ("nms", "qnms"):
        LIBRARY.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
