"""A small CNN on the embedded digits, with frozen weights that stand beside this file."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision

# isort: split
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor

FROZEN = Path(__file__).with_name("digits_cnn_1.safetensors")
LAYERS = ("pool", "spatial", "logits")


class DigitsCNN(FeatureExtractorBase):  # type: ignore[misc]
    """Features of 16 × 16 images: 64 wide, 4 × 8 × 8 spatial in NHWC, logits without bias.

    8 × 8 images are enlarged bilinearly, as the originals were for the training of this network.
    """

    channels, classes, frozen = 1, 10, FROZEN

    def __init__(self, name: str, features_list: list[str], **options: Path | None) -> None:
        super().__init__(name, features_list)
        weights = options.get("weights", self.frozen)
        self.conv1 = nn.Conv2d(self.channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.pool = nn.Linear(32 * 4 * 4, 64)  # a mean over positions separates fewer digits
        self.fc = nn.Linear(64, self.classes, bias=False)
        if weights is not None:
            self.load_state_dict(load_file(weights))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.float()
        if pixels.shape[-1] == 8:
            pixels = F.interpolate(pixels, scale_factor=2, mode="bilinear")
        early = self.conv2(self.conv1((pixels - 128) / 128).relu()).relu()
        pool = self.pool(self.conv3(early).relu().flatten(1)).relu()
        layers = {
            "pool": pool,
            "spatial": early[:, :4].permute(0, 2, 3, 1).flatten(1),
            "logits": self.fc(pool),
        }
        return tuple(layers[name] for name in self.features_list)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return LAYERS

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return "logits" if metric == "isc" else "pool"


register_feature_extractor("digits-cnn-1", DigitsCNN)


def build(path: Path | None) -> DigitsCNN:
    """The CNN with the weights of a file; None: random ones."""
    return DigitsCNN("digits-cnn-1", list(LAYERS), weights=path)
