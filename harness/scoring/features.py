"""Images to features in one pass: Inception as ADM uses it, a small CNN for the digits."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity imports torchvision
from harness.base.errors import UserError
from harness.base.files import sha256

# isort: split
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor

from harness.study.requirements import INCEPTION_SHA256, INCEPTION_URL, inception_path

Features = dict[str, Tensor]
FROZEN = Path(__file__).with_name("digits_cnn_1.safetensors")
DIGITS = "9ba98e60cc3b09b01ddb6c1c2bfa36518204616fe530adbb6dfdebcba0a0f2d3"
LAYERS = ("pool", "spatial", "logits")  # FID, KID, precision and recall; sFID; Inception score
INCEPTION_LAYERS = ["2048", "logits_unbiased"]  # torch-fidelity's names


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


class DigitsCNN(FeatureExtractorBase):  # type: ignore[misc]
    """Features of 16 × 16 grey digits: 64 wide, 4 × 8 × 8 spatial in NHWC, 10 logits, no bias.

    8 × 8 images are enlarged bilinearly, as the originals were for the training of this network.
    """

    def __init__(
        self, name: str, features_list: list[str], weights: Path | None = FROZEN, **_: object
    ) -> None:
        super().__init__(name, features_list)
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.pool = nn.Linear(32 * 4 * 4, 64)  # a mean over positions separates fewer digits
        self.fc = nn.Linear(64, 10, bias=False)
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


def inception(path: Path) -> ADMInception:
    """Inception with the weights of a file.

    torch-fidelity would unpickle the file: it gets bytes written here after a weights-only load.
    """
    buffer = io.BytesIO()
    torch.save(torch.load(path, map_location="cpu", weights_only=True), buffer)
    buffer.seek(0)
    return ADMInception("inception", INCEPTION_LAYERS, feature_extractor_weights_path=buffer)


class Unloaded(ADMInception):
    """The network before any weights are read."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        """Keeps the initial weights."""


def random_inception() -> ADMInception:
    """Inception with random weights, which nobody has to fetch to measure its speed."""
    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    return Unloaded("inception", INCEPTION_LAYERS, feature_extractor_weights_path=empty)


def digits_cnn(path: Path) -> DigitsCNN:
    """The CNN of the digits with the weights of a file."""
    return DigitsCNN("digits-cnn-1", list(LAYERS), path)


@dataclass(frozen=True)
class Row:
    """How to build an extractor; `digest` is as much of the weights' SHA-256 as is published."""

    build: Callable[[Path], nn.Module]
    file: Path
    digest: str
    channels: int


EXTRACTORS = {
    "inception": Row(inception, inception_path(), INCEPTION_SHA256, 3),
    "digits-cnn-1": Row(digits_cnn, FROZEN, DIGITS, 1),
}


@dataclass(frozen=True)
class Extractor:
    """uint8 images [N, channels, H, W] → {"pool", "spatial", "logits"}: fp32 [N, …] on the CPU."""

    name: str
    digest: str
    channels: int
    device: str
    network: nn.Module
    warnings: tuple[str, ...] = ()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.channels:
            raise UserError(
                f"{self.name} reads uint8 images [N, {self.channels}, H, W], not {images.dtype}"
                f" {list(images.shape)}: convert with clamp(127.5 x + 128, 0, 255)"
            )
        with full_precision(self.device):
            moved = images.to(self.device)
            plain = moved.clone(memory_format=torch.contiguous_format)  # strides change rounding
            features = self.network(plain)
        return {name: layer.float().cpu() for name, layer in zip(LAYERS, features, strict=True)}


@contextmanager
def full_precision(device: str) -> Iterator[None]:
    """Turns TF32 and autocast off: cuDNN's convolutions round to TF32 by default."""
    backends: Any = torch.backends
    switches = (
        backends.cudnn.conv,
        backends.cuda.matmul,
        backends.mkldnn.conv,
        backends.mkldnn.matmul,
    )
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


def load(
    name: str, weights: Path | None = None, device: str = "cpu", allow_other_digest: bool = False
) -> Extractor:
    """The extractor `name`, its weights read from `weights` or from where they usually lie.

    With `allow_other_digest` weights that are not the published ones give a warning, kept in
    `Extractor.warnings`.

    Raises:
        UserError: an unknown name, an absent or broken file, or another SHA-256 than the published.
    """
    if name not in EXTRACTORS:
        raise UserError(f"extractor {name!r} is not one of {', '.join(EXTRACTORS)}")
    row = EXTRACTORS[name]
    path = weights or row.file
    if not path.is_file():
        raise UserError(
            f"no weights of {name} at {path}: put"
            f" {INCEPTION_URL if name == 'inception' else row.file.name} there"
        )
    digest = sha256(path)
    problem = (
        f"weights of {name} in {path.name} have SHA-256 {digest[:8]}..., not the published"
        f" {row.digest[:8]}..."
    )
    other = not digest.startswith(row.digest)
    if other and not allow_other_digest:
        raise UserError(f"{problem}: fetch the published file, or name another one on purpose")
    try:
        network = row.build(path).to(device).eval()
    except (
        RuntimeError,
        pickle.UnpicklingError,
        SafetensorError,
        EOFError,
        AttributeError,
        TypeError,
    ) as error:
        reason = f"{type(error).__name__} {str(error).partition(chr(10))[0]}".strip()
        raise UserError(
            f"{path} does not hold the weights of {name} ({reason}): fetch it again"
        ) from error
    warnings = (
        (f"{problem}: values compare only with others from the same weights",) if other else ()
    )
    return Extractor(name, digest, row.channels, device, network, warnings)


def extract(images: Iterable[Tensor], extractor: Extractor) -> Features:
    """All features of a stream of uint8 batches [N, C, H, W]; the images are not kept.

    Raises:
        UserError: there are none.
    """
    parts = [extractor(batch) for batch in images]
    if not parts:
        raise UserError(f"{extractor.name}: no images to take features of")
    return {name: torch.cat([part[name] for part in parts]) for name in LAYERS}
