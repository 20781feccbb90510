"""Rows of video DiT: DiT on tubes of several frames, with closed-form counts. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.models import dit_rows
from harness.models.dit_rows import CONDITIONINGS, DIGIT_SIZES, PAPER_SIZES, TIME_FEATURES, DiTModel
from harness.models.rows import OTHER, Counts, Setting

if TYPE_CHECKING:
    from harness.models.video_dit import VideoDiT


@dataclass(frozen=True)
class VideoDiTModel(DiTModel):
    """DiT over tubes of `tube` frames by patch × patch pixels, each a token.

    In every block all tokens see each other; under the variant "factorised" (Latte's first) those
    of a frame do in the even blocks, and those of a place in the odd ones.
    """

    tube: int = field(kw_only=True)

    @property
    def clips(self) -> bool:
        return True

    @property
    def patch_side(self) -> float:
        return round(self.patch * self.tube**0.5, 2)  # 4, 5.66, 8 of tubes of 1, 2 and 4 frames

    def tokens(self, setting: Setting) -> int:
        return self.tubes(setting) * dit_rows.tokens(self, setting)

    @property
    def conditionings(self) -> tuple[str, ...]:
        return CONDITIONINGS[:1]

    @property
    def variants(self) -> tuple[str, ...]:
        return ("factorised",)

    def problem(self, setting: Setting) -> str | None:
        if setting.frames and setting.frames % self.tube:
            tubes = f"its tubes of {self.tube} frames"
            return f"{tubes} do not divide the {setting.frames} of a clip: {OTHER}"
        if setting.variant and self.depth < 2:
            return f"factorised needs 2 blocks, {self.family}-{self.size} has {self.depth}"
        return super().problem(setting)

    def build(self, setting: Setting) -> VideoDiT:
        from harness.models.video_dit import VideoDiT

        return VideoDiT(self, setting)

    def tubes(self, setting: Setting) -> int:
        """Tubes one after another at a place."""
        return (setting.frames or 1) // self.tube

    def image(self, setting: Setting) -> Setting:
        """What a tube is to the image model: its frames are channels of an image."""
        shape = (self.tube * setting.channels, setting.size, setting.size)
        return replace(setting, shape=shape, variant=None)

    def counts(self, setting: Setting) -> Counts:
        """Those of an image for each tube in time, timestep and label once, and more attention.

        Latte's code modulates each frame and each place anew, which adds 1.5 % and changes nothing.
        """
        d, image, tubes = self.width, self.image(setting), self.tubes(setting)
        places = dit_rows.tokens(self, image)
        once = self.depth * 6 * d * d + TIME_FEATURES * d + d * d + 2 * d * d
        macs = tubes * (dit_rows.multiply_adds(self, image) - once) + once
        seen = [places * tubes] * self.depth
        if setting.variant:
            seen = [tubes if block % 2 else places for block in range(self.depth)]
        macs += sum(2 * d * places * tubes * (keys - places) for keys in seen)
        return Counts(macs, dit_rows.parameters(self, image) + tubes * d)

    def kept_bytes(self, setting: Setting, precision: str) -> int | None:
        if setting.variant:
            return None
        image, tubes = self.image(setting), self.tubes(setting)
        modulation = self.depth * 9 * self.width * dit_rows.narrow(precision)
        return tubes * (dit_rows.activations(self, image, precision) - modulation) + modulation

    def live_bytes(self, setting: Setting, precision: str) -> int | None:
        if setting.variant:
            return None
        moment = dit_rows.widest_moment(self, self.image(setting), precision)
        return self.tubes(setting) * moment


FAMILIES = {"video-DiT": (PAPER_SIZES, (2, 4, 8)), "digit-video-DiT": (DIGIT_SIZES, (2, 4))}
TUBES = (1, 2, 4, 8)

# /2x4: tubes of 2 frames by 4 × 4 pixels.
VIDEO_DITS = {
    f"{family}-{size}/{tube}x{patch}": VideoDiTModel(
        family, size, patch=patch, depth=depth, width=width, heads=heads, tube=tube
    )
    for family, (sizes, patches) in FAMILIES.items()
    for size, depth, width, heads in sizes
    for tube in TUBES
    for patch in patches
}
