"""The same CNN on the embedded shapes, with frozen weights that stand beside this file."""

from __future__ import annotations

from pathlib import Path

from torch_fidelity.registry import register_feature_extractor

from harness.extractors.digits_cnn import LAYERS, DigitsCNN


class ShapesCNN(DigitsCNN):
    """Features of 16 × 16 images in colour, of eight classes."""

    channels, classes, frozen = 3, 8, Path(__file__).with_name("shapes_cnn_1.safetensors")


register_feature_extractor("shapes-cnn-1", ShapesCNN)


def build(path: Path | None) -> ShapesCNN:
    """The CNN with the weights of a file; None: random ones."""
    return ShapesCNN("shapes-cnn-1", list(LAYERS), weights=path)
