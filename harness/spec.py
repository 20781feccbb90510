"""What is wanted: Run, Protocol and Sweep, their ids, and grid(). No torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.base.validation import (
    NAME,
    Check,
    Mistakes,
    one_of,
    problems,
    refuse,
    safe_name,
    within,
)
from harness.data import DATASETS
from harness.models import CONDITIONINGS, MODELS
from harness.objectives import SAMPLERS, TIMESTEPS

PRECISIONS = ("fp32", "tf32", "bf16")
FEATURES = ("inception", "digits-cnn-1")
# Latent decoders and the encoder each belongs to; the three share one (paper, section 4 and Table
# 5).
ENCODERS = {"ft-mse": "sd-v1", "ft-ema": "sd-v1", "original": "sd-v1"}
DECODERS = (*ENCODERS, "identity")
WEIGHTS = ("ema", "raw")
LABELS = ("uniform", "balanced")


class Identity:
    """What Run and Protocol share: a canonical form, and the id that is its digest."""

    def canonical(self) -> dict[str, Any]:
        """The fields that bear identity; None is left out, so that a new optional field changes no old id."""
        fields: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(typing.cast(Any, self))
        }
        return {name: value for name, value in fields.items() if value is not None}

    def digest(self) -> str:
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


RUN_CHECKS: Mapping[str, Check] = {
    "model": one_of(MODELS),
    "data": one_of(DATASETS),
    "conditioning": one_of(CONDITIONINGS),
    "batch_size": within(1),
    "lr": within(0, 1, above=True),
    "weight_decay": within(0, 1),
    "ema_decay": within(0, 1, below=True),
    "label_dropout": within(0, 1, below=True),
    "precision": one_of(PRECISIONS),
    "seed": within(0),
}


@dataclass(frozen=True, kw_only=True)
class Run(Identity):
    """A training trajectory. The defaults are the paper's recipe (section 4); how long to train is the sweep's.

    `precision` "tf32" is what the released training script sets; "fp32" turns it off, "bf16" is
    autocast.

    Raises:
        ValueError: naming every field that is unknown, of another type or out of range.
    """

    model: str
    data: str = "imagenet256"
    conditioning: str = "adaLN-Zero"
    batch_size: int = 256
    lr: float = 1e-4
    weight_decay: float = 0.0
    ema_decay: float = 0.9999
    label_dropout: float = 0.1
    precision: str = "tf32"
    seed: int = 0

    def __post_init__(self) -> None:
        found = problems(self, RUN_CHECKS)
        if not found and DATASETS[self.data].size % MODELS[self.model].patch:
            found = [
                f"model = {self.model!r}: its patch does not divide the {DATASETS[self.data].size} of {self.data}"
            ]
        if not found and self.batch_size > DATASETS[self.data].images:
            found = [
                f"batch_size = {self.batch_size}: {self.data} has {DATASETS[self.data].images} images"
            ]
        refuse(f"Run({self.model})", found)

    @functools.cached_property
    def id(self) -> str:
        return f"{self.model.replace('/', '-')}_{self.digest()}"


PROTOCOL_CHECKS: Mapping[str, Check] = {
    "name": safe_name,
    "images": within(2),
    "sampler": one_of(SAMPLERS),
    "sampling_steps": within(1, TIMESTEPS),
    "guidance": within(0),
    "guidance_channels": within(1),
    "decoder": one_of(DECODERS),
    "features": one_of(FEATURES),
    "reference": safe_name,
    "weights": one_of(WEIGHTS),
    "labels": one_of(LABELS),
    "precision": one_of(PRECISIONS),
    "seed": within(0),
}


@dataclass(frozen=True, kw_only=True)
class Protocol(Identity):
    """A way to score a checkpoint: everything that changes a number. The defaults are the paper's (section 4).

    `guidance` 1.0 is none; `guidance_channels` 3 guides the first three latent channels, as the
    released code does; `reference` names the reference statistics and `reference_digest`, where
    given, pins their content.

    Raises:
        ValueError: naming every field that is unknown, of another type or out of range.
    """

    name: str
    images: int = 50_000
    sampler: str = "ddpm"
    sampling_steps: int = 250
    guidance: float = 1.0
    guidance_channels: int = 3
    decoder: str = "ft-mse"
    features: str = "inception"
    reference: str = "imagenet256"
    weights: str = "ema"
    labels: str = "uniform"
    precision: str = "fp32"
    seed: int = 0
    reference_digest: str | None = None

    def __post_init__(self) -> None:
        refuse(f"Protocol({self.name})", problems(self, PROTOCOL_CHECKS))

    @functools.cached_property
    def id(self) -> str:
        return f"{self.name}_{self.digest()}"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is wanted: these runs, each scored at these steps under each of these protocols.

    Raises:
        ValueError: naming every mistake, also those that only show when a run and a protocol meet.
    """

    name: str
    runs: tuple[Run, ...]
    steps: tuple[int, ...]
    protocols: tuple[Protocol, ...]

    def __post_init__(self) -> None:
        for field in ("runs", "steps", "protocols"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        faults = (
            []
            if isinstance(self.name, str) and NAME.fullmatch(self.name)
            else [f"name = {self.name!r} {safe_name('')}"]
        )
        refuse(f"Sweep({self.name})", faults + self.step_faults() + self.part_faults())

    def step_faults(self) -> list[str]:
        if not self.steps:
            return ["steps is empty: name at least one step to score"]
        if any(type(step) is not int for step in self.steps):
            return [f"steps = {self.steps} must be int"]
        faults = [f"steps: {step} must be at least 1" for step in self.steps if step < 1]
        if list(self.steps) != sorted(set(self.steps)):
            faults.append(
                f"steps = {self.steps} must rise without repeats: {tuple(sorted(set(self.steps)))}"
            )
        return faults

    def part_faults(self) -> list[str]:
        faults = []
        for name, cls in (("runs", Run), ("protocols", Protocol)):
            parts = getattr(self, name)
            if strange := {type(part).__name__ for part in parts if not isinstance(part, cls)}:
                return [f"{name} must be {cls.__name__}, not {', '.join(sorted(strange))}"]
            if twice := sorted(i for i, n in Counter(part.id for part in parts).items() if n > 1):
                faults.append(f"{name} names {', '.join(twice)} twice")
        if not self.runs:
            faults.append("runs is empty: name at least one Run")
        return faults + sorted({fault for fault in self.meetings() if fault})

    def meetings(self) -> Iterable[str | None]:
        """What only shows when a dataset and a protocol meet."""
        for data, protocol in itertools.product(
            sorted({run.data for run in self.runs}), self.protocols
        ):
            shape, latent = DATASETS[data], DATASETS[data].latent
            if protocol.guidance != 1.0 and protocol.guidance_channels > shape.channels:
                yield f"{protocol.name}: guidance_channels = {protocol.guidance_channels} of {data}'s {shape.channels}"
            if latent == (protocol.decoder == "identity"):
                yield f"{protocol.name}: decoder = {protocol.decoder!r} does not decode {data}"
            if latent == (protocol.features != "inception"):
                yield f"{protocol.name}: features = {protocol.features!r} do not see {data}"

    @property
    def cells(self) -> Iterable[tuple[Run, int, Protocol]]:
        """Every score that is wanted."""
        return itertools.product(self.runs, self.steps, self.protocols)


def grid(cls: type[Any] = Run, /, **axes: Any) -> tuple[Any, ...]:
    """The product of the axes: grid(model=["DiT-S/2", "DiT-B/2"], lr=1e-4) is two runs; a list or tuple is an axis.

    Raises:
        ValueError: with the mistakes of every member at once.
    """
    lists = [values if isinstance(values, list | tuple) else [values] for values in axes.values()]
    members: list[Any] = []
    faults: dict[str, None] = {}
    for values in itertools.product(*lists):
        try:
            members.append(cls(**dict(zip(axes, values, strict=True))))
        except Mistakes as error:
            faults |= dict.fromkeys(error.problems)
    refuse("grid", list(faults))
    return tuple(members)


def even_parts(count: int, most: int) -> int:
    """The largest number of equal parts of `count`, at most `most`."""
    return next(parts for parts in range(most, 0, -1) if count % parts == 0)
