"""Extractors: EXTRACTORS, images to features, a table of rows."""

from __future__ import annotations

from pathlib import Path

from harness.base.late import Late
from harness.extractors.rows import Extractor, Weights

__all__ = ["EXTRACTORS", "Extractor", "Weights"]

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
RELEASES = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"

# A table: another extractor is its network and its row.
EXTRACTORS: dict[str, Extractor] = {
    "inception": Extractor(
        layers={"pool": 2048, "spatial": 7 * 17 * 17, "logits": 1008},
        channels=3,
        gmacs=5.71323,
        build=Late("harness.extractors.inception", "build"),
        weights=Weights(INCEPTION, "6726825d", f"{RELEASES}/{INCEPTION}"),
        preprocess="TensorFlow's bilinear resize to 299",
    ),
    "digits-cnn-1": Extractor(
        layers={"pool": 64, "spatial": 4 * 8 * 8, "logits": 10},
        channels=1,
        gmacs=0.000512640,
        build=Late("harness.extractors.digits_cnn", "build"),
        weights=Weights(
            "digits_cnn_1.safetensors",
            "9ba98e60cc3b09b01ddb6c1c2bfa36518204616fe530adbb6dfdebcba0a0f2d3",
            folder=Path(__file__).parent,
        ),
        sides=(8, 16),
        preprocess="8 × 8 enlarged bilinearly to 16 × 16",
    ),
}
