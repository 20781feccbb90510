"""CLIP's ViT-L/14 at 336 pixels as CMMD uses it; the network is torch-fidelity's.

Source: google-research/google-research, cmmd (Apache-2.0), for what it is fed with.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision

# isort: split
from torch_fidelity.feature_extractor_clip import VisionTransformer

from harness.extractors.resize import bicubic, normalized

# Those of OpenAI's preprocessing.
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
PART = "visual."  # of the weights: the others are the text encoder's


class CLIP(nn.Module):
    """The image embedding, `pool`: not of unit length, which is CMMD's to do."""

    def __init__(
        self, side: int = 336, width: int = 1024, depth: int = 24, outputs: int = 768
    ) -> None:
        super().__init__()
        self.side = side
        self.visual = VisionTransformer(side, 14, width, depth, width // 64, outputs)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        pixels = normalized(bicubic(images, self.side), MEAN, DEVIATION)
        return (self.visual(pixels),)


def build(path: Path | None) -> CLIP:
    """ViT-L/14 at 336 pixels with the weights of a file; None: random ones."""
    network = CLIP()
    if path:
        weights = {name: x.float() for name, x in read(path).items() if name.startswith(PART)}
        network.load_state_dict(weights)
    return network


def read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of OpenAI's TorchScript archive, or of a safetensors file with its names."""
    if path.suffix == ".safetensors":
        return load_file(path)
    with warnings.catch_warnings():
        # torch is to lose TorchScript: then the safetensors file is the only way.
        warnings.simplefilter("ignore", DeprecationWarning)
        tensors: Mapping[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()
    return tensors
