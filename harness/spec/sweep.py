"""Sweep: which runs are scored at which steps under which protocols; and grid(). No torch."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.base.spelling import parts, plain, remedy
from harness.base.validation import Mistakes, refuse, safe_name
from harness.data import DATASETS
from harness.extractors import EXTRACTORS
from harness.objectives import OBJECTIVES
from harness.spec.identity import Fields
from harness.spec.protocol import ENCODERS, Protocol
from harness.spec.run import Run

NO_EXTRACTOR = "no extractor reads such images: add a row of your own"
ENDINGS = ("_log", "_samples")  # of the files beside the table of a sweep


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
            decoders = [d for d, family in ENCODERS.items() if family == row.autoencoder]
            decoders = decoders or ["identity"]
            if protocol.decoder not in decoders:
                yield (
                    f"{protocol.name}: decoder = {protocol.decoder!r} does not decode {data}:"
                    f" set it to {one_of_these(decoders)}"
                )
            if not EXTRACTORS[protocol.features].fits(row.colours, row.pixels):
                seeing = [n for n, one in EXTRACTORS.items() if one.fits(row.colours, row.pixels)]
                yield (
                    f"{protocol.name}: features = {protocol.features!r} do not see {data}:"
                    f" {f'set it to {one_of_these(seeing)}' if seeing else NO_EXTRACTOR}"
                )


def one_of_these(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))


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
