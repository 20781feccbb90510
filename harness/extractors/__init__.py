"""Extractors: EXTRACTORS, images to features, a table of rows."""

from __future__ import annotations

from pathlib import Path

from harness.base.late import Late
from harness.extractors.rows import Extractor, Weights

__all__ = ["EXTRACTORS", "Extractor", "Weights"]

INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
RELEASES = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"

# ADM's statistics and images of ImageNet.
ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/imagenet"
OPENAI = "https://openaipublic.azureedge.net/clip/models"
CLIP = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"

# A table: another extractor is its network and its row.
EXTRACTORS: dict[str, Extractor] = {
    "inception": Extractor(
        layers={"pool": 2048, "spatial": 7 * 17 * 17, "logits": 1008},
        channels=3,
        gmacs=5.71323,
        build=Late("harness.extractors.inception", "build"),
        weights=Weights(INCEPTION, "6726825d", f"{RELEASES}/{INCEPTION}"),
        preprocess="TensorFlow's bilinear resize to 299",
        references={
            "imagenet256": f"{ADM}/256/VIRTUAL_imagenet256_labeled.npz",
            "imagenet512": f"{ADM}/512/VIRTUAL_imagenet512.npz",
        },
        held=95_542_000,
        live=15_403_000,
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
    "shapes-cnn-1": Extractor(
        layers={"pool": 64, "spatial": 4 * 8 * 8, "logits": 8},
        channels=3,
        gmacs=0.000586240,
        build=Late("harness.extractors.shapes_cnn", "build"),
        weights=Weights(
            "shapes_cnn_1.safetensors",
            "fdfbfc0dce6ea2b5f822e784ea8a1a96b5c82405c204520658e4bd110ec7513e",
            folder=Path(__file__).parent,
        ),
        sides=(16,),
    ),
    "moving-digits-1": Extractor(
        layers={"pool": 64, "logits": 10, "frames": 8 * 64, "track": 8 * 2},
        channels=1,
        gmacs=0.004356992,
        build=Late("harness.extractors.moving_digits", "build"),
        weights=Weights(
            "moving_digits_1.safetensors",
            "35b13528e734b2d8e58cbaaa3379692270cab6aa775f156cc1f28fef759f1029",
            folder=Path(__file__).parent,
        ),
        sides=(12,),
        preprocess="for frames and logits, the 8 × 8 box around each frame's ink",
        frames=8,
    ),
    "dinov2-vitl14": Extractor(
        layers={"pool": 1024},
        channels=3,
        gmacs=81.0120,
        build=Late("harness.extractors.dinov2", "build"),
        weights=Weights(
            "dinov2_vitl14_pretrain.pth",
            "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        ),
        preprocess="Pillow's bicubic resize to 224, as dgm-eval",
        held=1_217_475_000,
        live=13_022_000,
    ),
    "clip-vitl14-336": Extractor(
        layers={"pool": 768},
        channels=3,
        gmacs=190.960,
        build=Late("harness.extractors.clip", "build"),
        weights=Weights("ViT-L-14-336px.pt", CLIP, f"{OPENAI}/{CLIP}/ViT-L-14-336px.pt"),
        preprocess="Pillow's bicubic resize to 336, as CMMD",
        held=1_217_176_000,
        live=39_563_000,
    ),
}
