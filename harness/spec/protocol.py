"""Protocol: a way to score a checkpoint, by every field that changes a number. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

from harness.base.validation import one_of, refuse, safe_name, within
from harness.extractors import EXTRACTORS
from harness.objectives import SAMPLERS, TIMESTEPS
from harness.spec.identity import PRECISIONS, Identity

# Latent decoders and the encoder of each; the three share one (paper, section 4 and Table 5).
ENCODERS = {"ft-mse": "sd-v1", "ft-ema": "sd-v1", "original": "sd-v1"}
DECODERS = (*ENCODERS, "identity")
WEIGHTS = ("ema", "raw")
LABELS = ("uniform", "balanced")


def enough_images(value: int) -> str | None:
    """A problem for fewer images than precision and recall need: three neighbours and itself."""
    return None if value >= 4 else "must be at least 4: recall looks at three neighbours of each"


@dataclass(frozen=True, kw_only=True)
class Protocol(Identity):
    """A way to score a checkpoint: everything that changes a number.

    The defaults are the paper's (section 4).
    `guidance` 1.0 is none; `guidance_channels` 3 guides the first three latent channels, as the
    released code does; `reference` names the reference statistics and `reference_digest`, where
    given, pins their content.

    Raises:
        UserError: naming every field that is unknown, of another type or out of range.
    """

    name: Annotated[str, safe_name]
    images: Annotated[int, enough_images] = 50_000
    sampler: Annotated[str, one_of(SAMPLERS)] = "ddpm"
    sampling_steps: Annotated[int, within(1, TIMESTEPS)] = 250
    guidance: Annotated[float, within(0)] = 1.0
    guidance_channels: Annotated[int, within(1)] = 3
    decoder: Annotated[str, one_of(DECODERS)] = "ft-mse"
    features: Annotated[str, one_of(EXTRACTORS)] = "inception"
    reference: Annotated[str, safe_name] = "imagenet256"
    weights: Annotated[str, one_of(WEIGHTS)] = "ema"
    labels: Annotated[str, one_of(LABELS)] = "uniform"
    precision: Annotated[str, one_of(PRECISIONS)] = "fp32"
    seed: Annotated[int, within(0)] = 0
    reference_digest: str | None = None

    def __post_init__(self) -> None:
        refuse(f"Protocol({self.name})", self.field_problems() or self.sampler_problems())

    def sampler_problems(self) -> list[str]:
        """DPM-Solver++ on all timesteps takes one of them twice and divides by the distance."""
        if self.sampler != "dpm-solver++" or self.sampling_steps < TIMESTEPS:
            return []
        return [
            f"sampling_steps = {self.sampling_steps}: dpm-solver++ takes at most {TIMESTEPS - 1}"
        ]

    @property
    def copies(self) -> int:
        """Copies of an image that pass through the network at once: guidance takes two."""
        return 1 if self.guidance == 1.0 else 2

    @property
    def forwards(self) -> int:
        """Forward passes of an image for a step of the sampler."""
        return self.copies * SAMPLERS[self.sampler]

    @functools.cached_property
    def id(self) -> str:
        return f"{self.name}_{self.digest()}"
