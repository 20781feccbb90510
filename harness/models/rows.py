"""A row of MODELS: what it answers for, with defaults that fit any network. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


OTHER = "take another model or dataset"
BASE_HEADS = 4  # of muP's base width: the paper's 288 is 4 heads of 72 (arXiv 2505.15270)
LOSS_VALUES = 18  # fp32 values of each number of a sample that the loss keeps: measured of ddpm's


@dataclass(frozen=True)
class Setting:
    """What a network is built for.

    shape: of a sample, (channels, size, size) or of a clip (channels, frames, size, size);
    classes: labels 0 … classes - 1, and `classes` is the null label, so that 0 classes are
    unconditional; outputs: channels of the result for each channel of the data, as the objective
    has it; conditioning, variant: which of the row's.
    """

    shape: tuple[int, ...]
    classes: int
    outputs: int = 1
    conditioning: str | None = None
    variant: str | None = None

    @property
    def channels(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """The side of a square sample."""
        return self.shape[-1]

    @property
    def frames(self) -> int | None:
        """Of a clip; None: samples are images."""
        return self.shape[1] if len(self.shape) == 4 else None


def loss_bytes(setting: Setting) -> int:
    """Bytes that the loss of an image keeps for its backward pass."""
    return 4 * LOSS_VALUES * math.prod(setting.shape)


@dataclass(frozen=True)
class Counts:
    """What a network costs.

    macs: forward multiply-adds of one image; parameters: all of them, fixed ones too.
    """

    macs: int
    parameters: int


@dataclass(frozen=True)
class Model:
    """A row of MODELS; a network of your own is a subclass with `build`.

    family, size: columns of the table, by which laws are fitted and figures are drawn; patch: the
    side of a patch, where the network has any.
    """

    family: str
    size: str
    patch: int | None = None

    @property
    def conditionings(self) -> tuple[str, ...]:
        """Ways to let timestep and label in, the default first; none where there is one way."""
        return ()

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of other networks of the same size, beside the plain one."""
        return ()

    @property
    def patch_side(self) -> float | None:
        """What tables have as the patch: its side; of a tube that of a square of as many pixels."""
        return self.patch

    def tokens(self, setting: Setting) -> int | None:
        """Tokens of a sample, without those of timestep and label; None without patches."""
        return (setting.size // self.patch) ** 2 if self.patch else None

    @property
    def clips(self) -> bool:
        """Whether samples are clips rather than images."""
        return False

    def passes(self, setting: Setting) -> float:
        """Forward passes' worth of a training step's forward, such as 1.6 where parts run twice."""
        return 1.0

    def of_heads(self, heads: int) -> Model | None:
        """The same row at the width of that many heads of its own size; None: it has no widths."""
        return None

    @property
    def base(self) -> Model | None:
        """The row of the width from which muP counts: a run of it is the standard one."""
        return self.of_heads(BASE_HEADS)

    def deviation(self, name: str, fan_in: int, fan_out: int) -> float:
        """Standard deviation that `build` draws a linear weight with, up to a constant factor.

        muP reads how it follows the width. The default: not at all.
        """
        return 1.0

    @property
    def counted_alone(self) -> str | None:
        """Why no dataset here can train or sample it, though it can be planned; None: one can."""
        return None

    def problem(self, setting: Setting) -> str | None:
        """Why this network does not fit a dataset; None where it does."""
        if self.clips != (setting.frames is not None):
            takes, given = ("clips", "images") if self.clips else ("images", "clips")
            return f"it takes {takes}, these are {given}: {OTHER}"
        if self.patch and setting.size % self.patch:
            return f"its patch of {self.patch} does not divide the side of {setting.size}: {OTHER}"
        return None

    def build(self, setting: Setting) -> nn.Module:
        """Builds the network, initialised from torch's default generator.

        It maps (x [N, *shape], t [N], y [N]) to [N, outputs · channels, ...]; torch is imported
        here, since planning does without it.
        """
        raise NotImplementedError(f"{type(self).__name__} builds no network")

    def counts(self, setting: Setting) -> Counts | None:
        """The counts in closed form; None: they are counted once, on the meta device."""
        return None

    def visible(
        self, setting: Setting, low: int, high: int, device: torch.device, *key: object
    ) -> Tensor | None:
        """Draws what a second pass over the slots low … high of a batch sees; None: there is none.

        Such a pass sees the same samples at the same times, with noise and label dropout of its
        own; its loss is added to the first's. The network is given what is drawn as `kept`.
        """
        return None

    def kept_bytes(self, setting: Setting, precision: str) -> int | None:
        """Bytes that a forward pass of an image keeps for its backward pass; None: measured."""
        return None

    def live_bytes(self, setting: Setting, precision: str) -> int | None:
        """Peak bytes of a forward pass of an image without a backward pass.

        None: as many as a backward pass would need, which is more.
        """
        return None
