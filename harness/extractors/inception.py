"""Inception of 2015-12-05 as ADM's evaluator uses it, through torch-fidelity."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision

# isort: split
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

LAYERS = ["2048", "logits_unbiased"]  # torch-fidelity's names


class ADMInception(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity has no types
    """Inception of 2015-12-05 with the 7 × 17 × 17 numbers of sFID.

    ADM reads them off `mixed_6/conv` in NHWC order.

    Source: openai/guided-diffusion, evaluations/evaluator.py.
    """

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        caught: list[Tensor] = []
        hook = self.Mixed_6d.branch1x1.register_forward_hook(
            lambda module, args, out: caught.append(out[:, :7])
        )
        try:
            pool, logits = super().forward(images)
        finally:
            hook.remove()
        return pool, caught[0].permute(0, 2, 3, 1).flatten(1), logits


class Unloaded(ADMInception):
    """The network before any weights are read."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        """Keeps the initial weights."""


def build(path: Path | None) -> ADMInception:
    """Inception with the weights of a file; None: random ones, to measure its speed.

    torch-fidelity would unpickle the file: it gets bytes written here after a weights-only load.
    """
    weights = torch.load(path, map_location="cpu", weights_only=True) if path else {}
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    buffer.seek(0)
    kind = ADMInception if path else Unloaded
    return kind("inception", LAYERS, feature_extractor_weights_path=buffer)
