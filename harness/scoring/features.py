"""Images to features: an extractor loaded with its weights, in full precision."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from harness.base.errors import UserError
from harness.base.files import sha256
from harness.base.late import Late
from harness.base.precision import matmul_precision
from harness.extractors import EXTRACTORS, Extractor
from harness.metrics.reference import Features


@dataclass(frozen=True, eq=False)  # hashed by identity: references are cached by it
class Loaded:
    """An extractor at work: uint8 images [N, channels, H, W] → fp32 [N, …] by layer, on the CPU.

    One of clips reads [N, channels, frames, H, W].
    """

    name: str
    digest: str
    layers: Mapping[str, int]
    channels: int
    device: str
    network: nn.Module
    warnings: tuple[str, ...] = ()
    sides: tuple[int, ...] = ()
    frames: int | None = None

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        read = (self.channels, *([self.frames] if self.frames else []))
        if images.dtype != torch.uint8 or images.shape[1:-2] != read:
            raise UserError(
                f"{self.name} reads uint8 images [N, {', '.join(map(str, read))}, H, W], not"
                f" {images.dtype}"
                f" {list(images.shape)}: convert with clamp(127.5 x + 128, 0, 255)"
            )
        if self.sides and images.shape[-1] not in self.sides:
            raise UserError(
                f"{self.name} reads images {' or '.join(map(str, self.sides))} wide, not"
                f" {images.shape[-1]}: take images of that size, or another extractor"
            )
        off = torch.autocast(torch.device(self.device).type, enabled=False)
        with matmul_precision("fp32"), off:
            moved = images.to(self.device)
            plain = moved.clone(memory_format=torch.contiguous_format)  # strides change rounding
            features = self.network(plain)
        return {
            name: layer.float().cpu() for name, layer in zip(self.layers, features, strict=True)
        }


def load(
    name: str, weights: Path | None = None, device: str = "cpu", allow_other_digest: bool = False
) -> Loaded:
    """The extractor `name`, its weights read from `weights` or from where they usually lie.

    With `allow_other_digest` weights that are not the published ones give a warning, kept in
    `Loaded.warnings`.

    Raises:
        UserError: an unknown name, an absent or broken file, or another SHA-256 than the published.
    """
    if name not in EXTRACTORS:
        raise UserError(f"extractor {name!r} is not one of {', '.join(EXTRACTORS)}")
    row = EXTRACTORS[name]
    if row.weights is None:
        return started(name, row, source_digest(row), row.build(None), device)
    path = weights or row.weights.path()
    if not path.is_file():
        raise UserError(row.weights.absent(name, path))
    digest = sha256(path)
    problem = (
        f"weights of {name} in {path.name} have SHA-256 {digest[:8]}..., not the published"
        f" {row.weights.digest[:8]}..."
    )
    other = not digest.startswith(row.weights.digest)
    if other and not allow_other_digest:
        raise UserError(f"{problem}: fetch the published file, or name another one on purpose")
    warning = f"{problem}: values compare only with others from the same weights"
    network = from_file(name, row, path)
    return started(name, row, digest, network, device, (warning,) if other else ())


def from_file(name: str, row: Extractor, path: Path) -> nn.Module:
    """The network with the weights of a file.

    Raises:
        UserError: it does not hold them.
    """
    try:
        return row.build(path)
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


def started(
    name: str,
    row: Extractor,
    digest: str,
    network: nn.Module,
    device: str,
    warnings: tuple[str, ...] = (),
) -> Loaded:
    ready = network.to(device).eval()
    seen = row.sides, row.frames
    return Loaded(name, digest, row.layers, row.channels, device, ready, warnings, *seen)


def unweighted(name: str, device: str) -> Loaded:
    """An extractor with random weights: its speed needs no download."""
    row = EXTRACTORS[name]
    return started(name, row, "random", row.build(None), device)


def source_digest(row: Extractor) -> str:
    """The SHA-256 of the file that an extractor without weights is written in."""
    written = import_module(row.build.module) if isinstance(row.build, Late) else row.build
    return sha256(Path(inspect.getfile(written)))


def extract(images: Iterable[Tensor], extractor: Loaded) -> Features:
    """All features of a stream of uint8 batches [N, C, …]; the images are not kept.

    Raises:
        UserError: there are none.
    """
    parts = [extractor(batch) for batch in images]
    if not parts:
        raise UserError(f"{extractor.name}: no images to take features of")
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
