"""Images to features in one pass: Inception as ADM uses it, and a small CNN for the embedded digits."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from harness.base import torchvision_ops  # noqa: F401  # before torch-fidelity, which imports torchvision
from harness.base.errors import UserError
from harness.base.files import sha256

# isort: split
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import register_feature_extractor

Features = dict[str, Tensor]
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"  # github.com/toshas/torch-fidelity/releases/tag/v0.2.0
FROZEN = Path(__file__).with_name("digits_cnn_1.safetensors")
DIGITS = "9ba98e60cc3b09b01ddb6c1c2bfa36518204616fe530adbb6dfdebcba0a0f2d3"
LAYERS = ("pool", "spatial", "logits")  # FID, KID, precision and recall; sFID; Inception score


class ADMInception(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity has no types
    """Inception of 2015-12-05 with the 7 x 17 x 17 numbers of sFID, which ADM reads off `mixed_6/conv` in NHWC order.

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
    """Features of 16 x 16 grey digits: 64 wide, 4 x 8 x 8 spatial (NHWC, as for sFID), 10 logits without bias."""

    def __init__(
        self, name: str, features_list: list[str], weights: Path | None = FROZEN, **_: object
    ) -> None:
        super().__init__(name, features_list)
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.pool = nn.Linear(32 * 4 * 4, 64)  # a mean over places told fewer digits apart
        self.fc = nn.Linear(64, 10, bias=False)
        if weights is not None:
            self.load_state_dict(load_file(weights))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        early = self.conv2(self.conv1((images.float() - 128) / 128).relu()).relu()
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


def _inception(path: Path) -> nn.Module:
    """torch-fidelity would unpickle the file: give it bytes that we wrote ourselves after a weights-only load."""
    buffer = io.BytesIO()
    torch.save(torch.load(path, map_location="cpu", weights_only=True), buffer)
    buffer.seek(0)
    return ADMInception(
        "inception", ["2048", "logits_unbiased"], feature_extractor_weights_path=buffer
    )


def _digits(path: Path) -> nn.Module:
    return DigitsCNN("digits-cnn-1", list(LAYERS), path)


@dataclass(frozen=True)
class Row:
    """How to build an extractor; `digest` is as much of the weights' SHA-256 as is published."""

    build: Callable[[Path], nn.Module]
    file: Path
    digest: str
    channels: int
    classes: int


EXTRACTORS = {
    "inception": Row(
        _inception, Path(torch.hub.get_dir()) / f"checkpoints/{INCEPTION}", "6726825d", 3, 1008
    ),
    "digits-cnn-1": Row(_digits, FROZEN, DIGITS, 1, 10),
}


@dataclass(frozen=True)
class Extractor:
    """uint8 images [N, channels, H, W] -> {"pool", "spatial", "logits"}: fp32 [N, ...] on the CPU."""

    name: str
    digest: str
    channels: int
    classes: int
    device: str
    network: nn.Module
    warnings: tuple[str, ...] = ()

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.channels:
            wanted, got = (
                f"uint8 images [N, {self.channels}, H, W]",
                f"{images.dtype} {list(images.shape)}",
            )
            raise UserError(
                f"{self.name} reads {wanted}, not {got}: convert with clamp(127.5 x + 128, 0, 255)"
            )
        with _full_precision(self.device):
            plain = images.to(self.device).clone(
                memory_format=torch.contiguous_format
            )  # strides change the rounding
            features = self.network(plain)
        return {name: layer.float().cpu() for name, layer in zip(LAYERS, features, strict=True)}


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """cuDNN convolutions round to TF32 by default, and a caller may have asked for more of it or for autocast."""
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

    Raises ValueError before any work when the name is unknown, the file is absent or broken, or its
    SHA-256 is not the published one; with `allow_other_digest` the latter becomes a warning kept in
    `Extractor.warnings`.
    """
    if name not in EXTRACTORS:
        raise UserError(f"extractor {name!r} is not one of {', '.join(EXTRACTORS)}")
    row = EXTRACTORS[name]
    path = weights or row.file
    if not path.is_file():
        raise UserError(
            f"no weights of {name} at {path}: put {row.file.name} (SHA-256 {row.digest}...) there"
        )
    digest = sha256(path)
    said = f"weights of {name} in {path.name} have SHA-256 {digest[:8]}..., not the published {row.digest[:8]}..."
    other = not digest.startswith(row.digest)
    if other and not allow_other_digest:
        raise UserError(f"{said}: fetch the published file, or name another one on purpose")
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
    warnings = (f"{said}: values compare only with others from the same weights",) if other else ()
    return Extractor(name, digest, row.channels, row.classes, device, network, warnings)


def extract(images: Iterable[Tensor], extractor: Extractor) -> Features:
    """All features of a stream of uint8 batches [N, C, H, W]: the images are dropped as they go."""
    parts = [extractor(batch) for batch in images]
    if not parts:
        raise UserError(f"{extractor.name}: no images to take features of")
    return {name: torch.cat([part[name] for part in parts]) for name in LAYERS}
