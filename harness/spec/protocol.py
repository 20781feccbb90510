"""Protocol: a way to score a checkpoint, by every field that changes a number. No torch."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any

from harness.base.spelling import parts
from harness.base.validation import one_of, refuse, safe_name, within
from harness.extractors import EXTRACTORS
from harness.metrics import metric_of, value_names
from harness.objectives import SAMPLERS, TIMESTEPS
from harness.objectives.guidance_schedules import guidance_problem, read_guidance
from harness.spec.ema import weights_problem
from harness.spec.identity import PRECISIONS, Identity, digest_of

# Latent decoders and the encoder of each; the three share one (paper, section 4 and Table 5).
ENCODERS = {"ft-mse": "sd-v1", "ft-ema": "sd-v1", "original": "sd-v1"}
DECODERS = (*ENCODERS, "identity")
LABELS = ("uniform", "balanced")


# The half of a protocol that makes the images; the rest, but for the name, measures them.
SAMPLED = (
    "sampler",
    "sampling_steps",
    "guidance",
    "guidance_channels",
    "guidance_schedule",
    "weights",
    "labels",
    "precision",
    "seed",
)


def known_values(names: tuple[str, ...]) -> str | None:
    """A check that every name is a value of a metric."""
    check = one_of(value_names())
    faults = [f"names {name!r}, which {fault}" for name in names if (fault := check(name))]
    return "; ".join(faults) or None


def enough_images(value: int) -> str | None:
    """A problem for fewer images than precision and recall need: three neighbours and itself."""
    return None if value >= 4 else "must be at least 4: recall looks at three neighbours of each"


@dataclass(frozen=True, kw_only=True)
class Protocol(Identity):
    """A way to score a checkpoint: everything that changes a number.

    The defaults are the paper's (section 4).
    `guidance` 1.0 is none; `guidance_channels` 3 guides the first three latent channels, as the
    released code does; `guidance_schedule` None is constant, and objectives/guidance_schedules.py
    has the others; `reference` names the reference statistics and `reference_digest`, where given,
    pins their content. `weights` "ema-0.075" is the average of that width (docs/averages.md).
    `metrics` names values that a record holds beside those it always has; they
    are not of the id, and one that is added later is computed from what was kept.

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
    weights: Annotated[str, weights_problem] = "ema"
    labels: Annotated[str, one_of(LABELS)] = "uniform"
    precision: Annotated[str, one_of(PRECISIONS)] = "fp32"
    seed: Annotated[int, within(0)] = 0
    reference_digest: str | None = None
    guidance_schedule: Annotated[str | None, guidance_problem] = None
    metrics: Annotated[tuple[str, ...], known_values] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", parts(self.metrics))
        refuse(
            f"Protocol({self.name})",
            self.field_problems() or self.sampler_problems() + self.metrics_problems(),
        )

    def canonical(self) -> dict[str, Any]:
        """Without the metrics: they say what else is computed, and change no value."""
        fields = super().canonical()
        del fields["metrics"]
        return fields

    def metrics_problems(self) -> list[str]:
        """Values that need a layer which the extractor has not."""
        layers = {*EXTRACTORS[self.features].layers, "labels"}
        rows = {name: metric_of(name) for name in self.metrics}
        blind = [name for name, row in rows.items() if row and not row.reads(layers)]
        return [
            f"metrics: {name} is not computed from {', '.join(sorted(layers))} of {self.features}:"
            " take another extractor"
            for name in blind
        ]

    def sampler_problems(self) -> list[str]:
        """A schedule of no guidance, and DPM-Solver++ on all timesteps.

        It takes one of them twice, and divides by the distance.
        """
        found = []
        if self.sampler == "dpm-solver++" and self.sampling_steps >= TIMESTEPS:
            found.append(
                f"sampling_steps = {self.sampling_steps}: dpm-solver++ takes at most"
                f" {TIMESTEPS - 1}"
            )
        if self.guidance_schedule and self.guidance == 1.0:
            found.append(
                f"guidance_schedule = {self.guidance_schedule!r} of no guidance: set guidance, or"
                " leave it out"
            )
        return found

    @functools.cached_property
    def sampled(self) -> str:
        """The id of what makes the images; how many are made is not of it.

        Image i depends on these fields and on i alone, so that 10,000 are the first of 50,000.
        """
        own = {name: value for name, value in self.canonical().items() if name in SAMPLED}
        return f"{self.sampler}-{self.sampling_steps}_{digest_of(own)}"

    @functools.cached_property
    def measured(self) -> str:
        """The id of what measures the images."""
        own = {
            name: value
            for name, value in self.canonical().items()
            if name not in (*SAMPLED, "name")
        }
        return f"{self.features}_{digest_of(own)}"

    @property
    def copies(self) -> int:
        """Copies of an image that pass through the network at once: guidance takes two."""
        return 1 if self.guidance == 1.0 else 2

    @property
    def guided(self) -> float:
        """The share of the steps at which guidance takes two."""
        schedule = read_guidance(self.guidance_schedule) if self.guidance_schedule else None
        return schedule.guided if schedule else 1.0

    @property
    def forwards(self) -> int:
        """Forward passes of an image for a step of the sampler that is guided."""
        return self.copies * SAMPLERS[self.sampler]

    @property
    def n(self) -> int:
        """What a record counts."""
        return self.images

    @property
    def passes(self) -> int:
        """Forward passes of one image, in all."""
        calls = self.sampling_steps * SAMPLERS[self.sampler]
        return self.images * round(calls * (1 + (self.copies - 1) * self.guided))

    @functools.cached_property
    def id(self) -> str:
        return f"{self.name}_{self.digest()}"
