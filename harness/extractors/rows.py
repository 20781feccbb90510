"""A row of EXTRACTORS: what features it gives of which images, and its weights. No torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.files import sha256

if TYPE_CHECKING:
    from torch import nn

FP32 = 4  # bytes of a number


def hub_folder() -> Path:
    """Where torch.hub keeps the weights that it downloads."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    home = Path(os.environ.get("TORCH_HOME", cache)).expanduser()
    return home / "hub" / "checkpoints"


@dataclass(frozen=True)
class Weights:
    """The file of a network's weights.

    file: its name; digest: as much of its SHA-256 as is known, "" for nothing; source: where it is
    published, for messages; folder: where it lies, None for torch.hub's folder.
    """

    file: str
    digest: str = ""
    source: str = ""
    folder: Path | None = None

    def path(self) -> Path:
        """Where the file lies unless somebody names another."""
        return (self.folder or hub_folder()) / self.file

    def absent(self, name: str, path: Path) -> str:
        """The problem of a file that is not there."""
        return f"no weights of {name} at {path}: put {self.source or self.file} there"

    def problem(self, name: str, path: Path, digest_of: Callable[[Path], str] = sha256) -> str:
        """What keeps a file from being the weights of extractor `name`, or ""."""
        if not path.is_file():
            return self.absent(name, path)
        if (digest := digest_of(path)).startswith(self.digest):
            return ""
        return (
            f"weights of {name} at {path} have SHA-256 {digest[:8]}, not {self.digest[:8]}:"
            f" fetch {self.source or self.file}"
        )


@dataclass(frozen=True)
class Extractor:
    """One row.

    layers: what it gives of an image, numbers by name. "pool" is compared by its moments and its
    neighbours, "spatial" by its moments alone, "logits" are guesses of a class; other names are
    for metrics that ask for them.
    channels: of the uint8 images it reads, 3 or 1; sides: those it takes, () for any; frames: of
    the clips that it reads, None where these are images.
    gmacs: forward multiply-adds of one image / 1e9.
    build: gives the network, uint8 [N, channels, (frames,) H, W] → a tensor [N, numbers] of each
    layer, in the order of `layers`; its argument is the file of weights, or None for random ones.
    weights: None where there are none: its source file is what its features depend on.
    preprocess: what happens to an image before the network, for readers.
    references: where its statistics of known datasets are published, by the reference's name.
    held, live: bytes of its weights, and the most that an image takes in a forward; 0: few.
    """

    layers: Mapping[str, int]
    channels: int
    gmacs: float
    build: Callable[[Path | None], nn.Module]
    weights: Weights | None = None
    sides: tuple[int, ...] = ()
    preprocess: str = ""
    references: Mapping[str, str] = field(default_factory=dict)
    frames: int | None = None
    held: int = 0
    live: int = 0

    @property
    def bytes(self) -> int:
        """Of the features of one image, in fp32."""
        return FP32 * sum(self.layers.values())

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it reads images or clips [channels, (frames,) side, side]."""
        read = (self.channels, *((self.frames,) if self.frames else ()))
        return shape[:-2] == read and (not self.sides or shape[-1] in self.sides)

    def problem(
        self, name: str, path: Path | None = None, digest_of: Callable[[Path], str] = sha256
    ) -> str:
        """What keeps it from being loaded from `path`, or from where its weights lie, or ""."""
        if self.weights is None:
            return ""
        return self.weights.problem(name, path or self.weights.path(), digest_of)
