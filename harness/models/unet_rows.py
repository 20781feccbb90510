"""Rows of U-Nets: ADM, its upsamplers, LDM and the digits', their layout and counts. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from harness.models.rows import OTHER, Counts, Model, Setting

if TYPE_CHECKING:
    from torch import nn

CONTEXT = 512  # width of the token that gives LDM the class
UPSAMPLES = "it enlarges images of a base model, and no dataset here has pairs of them"
NORM = 5  # multiply-adds of each number in an affine norm, as fvcore has it


class Part(NamedTuple):
    """A piece of a U-Net: from `enter` channels at `side` to `leave` channels at `after`.

    kind: "conv", "res", "attention", or a "resample" between the levels of LDM.
    """

    kind: str
    enter: int
    leave: int
    side: int
    after: int


class Layout(NamedTuple):
    """Groups of parts on the way down, in the middle, and up; each down's result is kept for up."""

    down: list[list[Part]]
    middle: list[Part]
    up: list[list[Part]]

    def __iter__(self) -> Iterator[Part]:  # type: ignore[override]
        for group in (*self.down, self.middle, *self.up):
            yield from group


@dataclass(frozen=True)
class UNetModel(Model):
    """ADM's U-Net: `blocks` residual blocks a level, of width × mult channels.

    attention: sides at which there is attention, of `heads` heads or of heads `head_width` wide;
    split: whether qkv rows are sorted by q, k, v and then heads, as in ADM 64; the others sort by
    heads first. groups: of each group norm. upsamples: whether it enlarges an image that it is
    given beside the noisy one.
    """

    width: int = field(kw_only=True)
    mult: tuple[float, ...] = field(kw_only=True)
    blocks: int = field(kw_only=True, default=2)
    attention: tuple[int, ...] = field(kw_only=True, default=(32, 16, 8))
    heads: int | None = field(kw_only=True, default=None)
    head_width: int = field(kw_only=True, default=64)
    split: bool = field(kw_only=True, default=False)
    groups: int = field(kw_only=True, default=32)
    upsamples: bool = field(kw_only=True, default=False)

    @property
    def counted_alone(self) -> str | None:
        return UPSAMPLES if self.upsamples else None

    def problem(self, setting: Setting) -> str | None:
        if setting.size % (scale := 2 ** (len(self.mult) - 1)):
            halved = f"it halves the side {len(self.mult) - 1} times"
            return f"{halved}, and {scale} does not divide {setting.size}: {OTHER}"
        return super().problem(setting)

    def build(self, setting: Setting) -> nn.Module:
        from harness.models.unet import UNet

        return UNet(self, setting)

    def channels(self, level: int) -> int:
        return int(self.width * self.mult[level])

    def layout(self, setting: Setting) -> Layout:
        """The network's pieces, by which it is built and counted."""
        return layout(self, setting)

    def counts(self, setting: Setting) -> Counts:
        pieces = [count(self, part) for part in layout(self, setting)]
        hidden = 4 * self.width
        last, side = self.channels(0), setting.size
        outputs = setting.outputs * setting.channels
        macs = sum(piece.macs for piece in pieces) + self.width * hidden + hidden**2
        macs += last * side**2 * (NORM + 9 * outputs)
        if self.upsamples:
            macs += 4 * setting.channels * side**2  # bilinear
        held = sum(piece.parameters for piece in pieces) + hidden * (self.width + 1 + hidden + 1)
        held += setting.classes * hidden + 2 * last + 9 * last * outputs + outputs
        return Counts(macs, held)


@dataclass(frozen=True)
class LatentUNetModel(UNetModel):
    """LDM's U-Net, as diffusers has it: transformers that attend to the class, plain resampling.

    side: of the latents that the published network is for, 256 px by the factor in its name; at
    another side attention would sit on other levels. None: any.
    """

    side: int | None = field(kw_only=True, default=None)

    def problem(self, setting: Setting) -> str | None:
        if self.side and setting.size != self.side:
            latents = f"it is for latents of {self.side} × {self.side}"
            return f"{latents}, these are of {setting.size}: {OTHER}"
        return super().problem(setting)

    def build(self, setting: Setting) -> nn.Module:
        from harness.models.ldm import LatentUNet

        return LatentUNet(self, setting)

    def counts(self, setting: Setting) -> Counts:
        """The embedding of the class, which is counted here, lies outside the U-Net there."""
        plain = super().counts(setting)
        labels = (setting.classes + 1) * CONTEXT - 4 * self.width * setting.classes
        return Counts(plain.macs, plain.parameters + labels)


def layout(model: UNetModel, setting: Setting) -> Layout:
    """ADM resamples in a residual block of its own, LDM by a convolution."""
    side, now = setting.size, model.channels(0)
    resample = "resample" if isinstance(model, LatentUNetModel) else "res"
    inputs = setting.channels * (2 if model.upsamples else 1)
    down = [[Part("conv", inputs, now, side, side)]]
    kept, up = [now], []
    last = len(model.mult) - 1

    def pair(enter: int, leave: int) -> list[Part]:
        found = [Part("res", enter, leave, side, side)]
        if side in model.attention:
            found.append(Part("attention", leave, leave, side, side))
        return found

    for level in range(last + 1):
        for _ in range(model.blocks):
            down.append(pair(now, model.channels(level)))
            kept.append(now := model.channels(level))
        if level < last:
            down.append([Part(resample, now, now, side, side // 2)])
            kept.append(now)
            side //= 2
    around = Part("res", now, now, side, side)
    middle = [around, Part("attention", now, now, side, side), around]
    for level in range(last, -1, -1):
        for k in range(model.blocks + 1):
            group = pair(now + kept.pop(), now := model.channels(level))
            if level and k == model.blocks:
                group.append(Part(resample, now, now, side, side * 2))
                side *= 2
            up.append(group)
    return Layout(down, middle, up)


def count(model: UNetModel, part: Part) -> Counts:
    """Multiply-adds and parameters of a piece."""
    a, b, before, after = part.enter, part.leave, part.side**2, part.after**2
    repeated = a * after if after > before else 0  # fvcore counts what is interpolated
    if part.kind in ("conv", "resample"):
        return Counts(9 * a * b * after + repeated, 9 * a * b + b)
    if part.kind == "res":
        hidden, vectors = 4 * model.width, b if isinstance(model, LatentUNetModel) else 2 * b
        macs = NORM * (a * before + b * after) + 9 * (a + b) * b * after + hidden * vectors
        macs += 2 * repeated
        held = 2 * (a + b) + 9 * (a + b) * b + 2 * b + (hidden + 1) * vectors
        enters = a * b if a != b else 0  # the residual's own convolution
        return Counts(macs + enters * after, held + (enters + b if enters else 0))
    if isinstance(model, LatentUNetModel):
        return transformer(b, before)
    return Counts(before * (NORM * b + 4 * b * b + 2 * before * b), 4 * b * b + 4 * b + 2 * b)


def transformer(width: int, tokens: int) -> Counts:
    """LDM's: convolutions around self-attention, attention to the class, and a gated MLP."""
    d, t = width, tokens
    macs = t * (2 * d * d + 4 * d * d + 2 * t * d + 2 * d * d + 2 * d + 12 * d * d)
    macs += 2 * CONTEXT * d + 4 * NORM * t * d  # k and v of the one token; norms
    held = 2 * (d * d + d) + 2 * d  # convolutions and their norm
    held += 4 * d * d + d + 2 * d * d + 2 * CONTEXT * d + d  # attentions; q, k, v have no bias
    held += 8 * d * d + 8 * d + 4 * d * d + d + 3 * 2 * d  # MLP, norms
    return Counts(macs, held)


WIDE = (1, 1, 2, 2, 4, 4)
ADMS: dict[str, UNetModel] = {
    "ADM-64": UNetModel("ADM", "64", width=192, mult=(1, 2, 3, 4), blocks=3, split=True),
    "ADM-128": UNetModel("ADM", "128", width=256, mult=(1, 1, 2, 3, 4), heads=4),
    "ADM-256": UNetModel("ADM", "256", width=256, mult=WIDE),
    "ADM-512": UNetModel("ADM", "512", width=256, mult=(0.5, *WIDE)),
    "ADM-U-256": UNetModel("ADM-U", "256", width=192, mult=WIDE, heads=4, upsamples=True),
    "ADM-U-512": UNetModel("ADM-U", "512", width=192, mult=WIDE, upsamples=True),
}
LDMS: dict[str, UNetModel] = {
    "LDM-4": LatentUNetModel("LDM", "4", width=192, mult=(1, 2, 3, 5), heads=1, side=64),
    "LDM-8": LatentUNetModel("LDM", "8", width=256, mult=(1, 2, 4), head_width=32, side=32),
}
# ADM on two levels, with attention on the lower one, at the Gflops of digit-DiT at a
# patch of 2, to 8 %.
DIGIT_WIDTHS = {"S": 8, "B": 12, "L": 16, "XL": 20}
DIGITS = {
    f"digit-U-Net-{size}": UNetModel(
        "digit-U-Net",
        size,
        width=width,
        mult=(1, 2),
        blocks=1,
        attention=(4,),
        head_width=8,
        groups=4,
    )
    for size, width in DIGIT_WIDTHS.items()
}
U_NETS = {**ADMS, **LDMS, **DIGITS}
