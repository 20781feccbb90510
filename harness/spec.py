"""What is wanted: Run, Protocol and Sweep, their ids, and grid(). No torch."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import typing
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Self

from harness.base.spelling import parts, plain, remedy, suggestion
from harness.base.validation import Mistakes, one_of, problems, refuse, rules, safe_name, within
from harness.data import DATASETS
from harness.models import CONDITIONINGS, MODELS
from harness.objectives import OBJECTIVES, SAMPLERS, TIMESTEPS, Objective

PRECISIONS = ("fp32", "tf32", "bf16")
FEATURES = ("inception", "digits-cnn-1")
# Latent decoders and the encoder of each; the three share one (paper, section 4 and Table 5).
ENCODERS = {"ft-mse": "sd-v1", "ft-ema": "sd-v1", "original": "sd-v1"}
DECODERS = (*ENCODERS, "identity")
WEIGHTS = ("ema", "raw")
LABELS = ("uniform", "balanced")
ENDINGS = ("_log", "_samples")  # of the files beside the table of a sweep


class Fields:
    """A constructor that names the fields it does not know, with the nearest one."""

    def __new__(cls, *values: object, **fields: object) -> Self:
        refuse(cls.__name__, call_problems(cls, values, fields))
        return super().__new__(cls)


def call_problems(cls: Any, values: Iterable[object], given: Iterable[str]) -> list[str]:
    known = [field.name for field in dataclasses.fields(cls)]
    unnamed = [f"{value!r} has no name: write {cls.__name__}({known[0]}=...)" for value in values]
    return unnamed + [
        f"{name} is unknown: {suggestion(name, known)}" for name in given if name not in known
    ]


class Identity(Fields):
    """What Run and Protocol share: a canonical form, and the id that is its digest."""

    def field_problems(self) -> list[str]:
        """Every field that is of another type or out of range, once exact numbers are plain."""
        fields = rules(typing.cast(Any, type(self)))
        several = [name for name in fields if len(parts(getattr(self, name))) > 1]
        if several:
            return [
                f"{name} = {getattr(self, name)!r} are several values:"
                f" grid({type(self).__name__}, {name}=...) makes one of each"
                for name in several
            ]
        for name, rule in fields.items():
            object.__setattr__(self, name, plain(getattr(self, name), rule.types))
        return problems(self)

    def canonical(self) -> dict[str, Any]:
        """The fields that bear identity, without None: a new optional field changes no old id."""
        fields: dict[str, Any] = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(typing.cast(Any, self))
        }
        return {name: value for name, value in fields.items() if value is not None}

    def digest(self) -> str:
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True, kw_only=True)
class Run(Identity):
    """A training trajectory; how long it is trained is the sweep's.

    The defaults are the paper's recipe (section 4).
    `precision` "tf32" is what the released training script sets; "fp32" turns it off, "bf16" is
    autocast. `objective` None is "ddpm", the paper's.

    Raises:
        UserError: naming every field that is unknown, of another type or out of range.
    """

    model: Annotated[str, one_of(MODELS)]
    data: Annotated[str, one_of(DATASETS)] = "imagenet256"
    conditioning: Annotated[str, one_of(CONDITIONINGS)] = "adaLN-Zero"
    batch_size: Annotated[int, within(1)] = 256
    lr: Annotated[float, within(0, 1, above=True)] = 1e-4
    weight_decay: Annotated[float, within(0, 1)] = 0.0
    ema_decay: Annotated[float, within(0, 1, below=True)] = 0.9999
    label_dropout: Annotated[float, within(0, 1, below=True)] = 0.1
    precision: Annotated[str, one_of(PRECISIONS)] = "tf32"
    seed: Annotated[int, within(0)] = 0
    objective: Annotated[str | None, one_of(OBJECTIVES)] = None

    def __post_init__(self) -> None:
        if self.objective == "ddpm":  # as runs of before there were others
            object.__setattr__(self, "objective", None)
        refuse(f"Run({self.model})", self.field_problems() or self.data_problems())

    @property
    def objective_row(self) -> Objective:
        return OBJECTIVES[self.objective or "ddpm"]

    def data_problems(self) -> list[str]:
        """The problems that only show when model and dataset meet."""
        data, found = DATASETS[self.data], []
        if data.size % MODELS[self.model].patch:
            found.append(
                f"model = {self.model!r}: its patch does not divide the {data.size} of {self.data}"
            )
        if self.batch_size > data.images:
            found.append(f"batch_size = {self.batch_size}: {self.data} has {data.images} images")
        return found

    @functools.cached_property
    def id(self) -> str:
        return f"{self.model.replace('/', '-')}_{self.digest()}"


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
    features: Annotated[str, one_of(FEATURES)] = "inception"
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


@dataclass(frozen=True, kw_only=True)
class Sweep(Fields):
    """What is wanted: these runs, each scored at these steps under each of these protocols.

    A list, a range, an array or a single one are as good as a tuple.

    Raises:
        UserError: naming every mistake, also those that only show when a run and a protocol meet.
    """

    name: str
    runs: tuple[Run, ...]
    steps: tuple[int, ...]
    protocols: tuple[Protocol, ...]

    def __post_init__(self) -> None:
        for field in ("runs", "steps", "protocols"):
            values = tuple(plain(value, (int,)) for value in parts(getattr(self, field)))
            object.__setattr__(self, field, values)
        refuse(
            f"Sweep({self.name})",
            self.name_problems() + self.step_problems() + self.part_problems(),
        )

    def name_problems(self) -> list[str]:
        """The problems of the name, which becomes that of <name>.csv and <name>_log.csv."""
        fault = safe_name(self.name if isinstance(self.name, str) else "")
        if fault:
            return [f"name = {self.name!r} {fault}"]
        return [
            f"name = {self.name!r} ends in {end}, as a file of the sweep {self.name[: -len(end)]!r}"
            " does: choose another name"
            for end in ENDINGS
            if self.name.endswith(end)
        ]

    def step_problems(self) -> list[str]:
        if not self.steps:
            return ["steps is empty: name at least one step to score"]
        if bad := [step for step in self.steps if type(step) is not int]:
            return [f"steps: {step!r} must be int{remedy(step, (int,))}" for step in bad]
        found = [f"steps: {step} must be at least 1" for step in self.steps if step < 1]
        if self.steps != (rising := tuple(sorted(set(self.steps)))):
            found.append(f"steps = {self.steps} must rise without repeats: {rising}")
        return found

    def part_problems(self) -> list[str]:
        found = []
        for name, cls in (("runs", Run), ("protocols", Protocol)):
            parts = getattr(self, name)
            if others := {type(part).__name__ for part in parts if not isinstance(part, cls)}:
                return [f"{name} must be {cls.__name__}, not {', '.join(sorted(others))}"]
            if twice := sorted(i for i, n in Counter(part.id for part in parts).items() if n > 1):
                found.append(f"{name} names {', '.join(twice)} twice")
        if not self.runs:
            found.append("runs is empty: name at least one Run")
        return found + sorted(set(self.pair_problems()))

    def pair_problems(self) -> Iterator[str]:
        """The problems that only show when a dataset or an objective and a protocol meet."""
        for name, protocol in itertools.product(
            dict.fromkeys(run.objective or "ddpm" for run in self.runs), self.protocols
        ):
            if protocol.sampler not in (fit := OBJECTIVES[name].samplers):
                yield (
                    f"{protocol.name}: sampler = {protocol.sampler!r} does not sample objective"
                    f" {name!r}: take one of {', '.join(fit)}"
                )
        datasets = sorted({run.data for run in self.runs})
        for data, protocol in itertools.product(datasets, self.protocols):
            row = DATASETS[data]
            if protocol.copies > 1 and protocol.guidance_channels > row.channels:
                yield (
                    f"{protocol.name}: guidance_channels = {protocol.guidance_channels} of"
                    f" {data}'s {row.channels}: set it to {row.channels}"
                )
            decoders = list(ENCODERS) if row.latent else ["identity"]
            if protocol.decoder not in decoders:
                yield (
                    f"{protocol.name}: decoder = {protocol.decoder!r} does not decode {data}:"
                    f" set it to {' or '.join(map(repr, decoders))}"
                )
            extractor = "inception" if row.latent else "digits-cnn-1"
            if protocol.features != extractor:
                yield (
                    f"{protocol.name}: features = {protocol.features!r} do not see {data}:"
                    f" set it to {extractor!r}"
                )


def grid(cls: type[Any] = Run, /, **axes: Any) -> tuple[Any, ...]:
    """The product of the axes: grid(model=["DiT-S/2", "DiT-B/2"], lr=1e-4) is two runs.

    A list, a tuple, a range or an array is an axis.

    Raises:
        UserError: with the mistakes of every member at once.
    """
    lists = [parts(values) for values in axes.values()]
    members: list[Any] = []
    found: dict[str, None] = {}
    for values in itertools.product(*lists):
        try:
            members.append(cls(**dict(zip(axes, values, strict=True))))
        except Mistakes as error:
            found |= dict.fromkeys(error.problems)
    refuse("grid", list(found))
    return tuple(members)


def even_parts(count: int, most: int) -> int:
    """The largest number of equal parts of `count`, at most `most`."""
    return next(parts for parts in range(most, 0, -1) if count % parts == 0)
