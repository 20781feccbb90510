"""What keeps a protocol from scoring a run: problems that show when both are known. No torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from harness.data import DATASETS
from harness.extractors import EXTRACTORS
from harness.objectives import OBJECTIVES
from harness.spec.protocol import ENCODERS, Protocol
from harness.spec.run import Run
from harness.spec.validation import AnyProtocol, Validation

NO_EXTRACTOR = "no extractor reads such images: add a row of your own"


def pair_problems(runs: Iterable[Run], protocols: Iterable[AnyProtocol]) -> Iterator[str]:
    """The problems of all pairs of a run and a protocol, each as a line with its remedy."""
    runs, protocols = list(runs), list(protocols)
    objectives = dict.fromkeys(run.objective or "ddpm" for run in runs)
    datasets = sorted({run.data for run in runs})
    sampling = [p for p in protocols if isinstance(p, Protocol)]
    validations = [p for p in protocols if isinstance(p, Validation)]
    for objective, protocol in itertools.product(objectives, sampling):
        yield from sampler_problems(objective, protocol)
    for data, validation in itertools.product(datasets, validations):
        yield from held_out_problems(data, validation)
    for run, any_protocol in itertools.product(runs, protocols):
        yield from average_problems(run, any_protocol)
    for data, protocol in itertools.product(datasets, sampling):
        yield from guidance_problems(data, protocol)
        yield from sight_problems(data, protocol)


def sampler_problems(objective: str, protocol: Protocol) -> Iterator[str]:
    if protocol.sampler not in (fit := OBJECTIVES[objective].samplers):
        yield (
            f"{protocol.name}: sampler = {protocol.sampler!r} does not sample objective"
            f" {objective!r}: take one of {', '.join(fit)}"
        )


def average_problems(run: Run, protocol: AnyProtocol) -> Iterator[str]:
    """An average of a run that tracks none it could be rebuilt from."""
    if run.ema is None and run.file_of(protocol.weights) is None:
        yield (
            f"{protocol.name}: weights = {protocol.weights!r} of {run.model}, which tracks no power"
            " average: train it with ema='power-0.05+power-0.1'"
        )


def held_out_problems(data: str, validation: Validation) -> Iterator[str]:
    if not DATASETS[data].validates:
        names = [name for name, row in DATASETS.items() if row.validates]
        yield (
            f"{validation.name}: {data} has no held-out images: train on one of {', '.join(names)}"
        )


def guidance_problems(data: str, protocol: Protocol) -> Iterator[str]:
    row = DATASETS[data]
    if protocol.copies > 1 and not row.classes:
        yield (
            f"{protocol.name}: guidance = {protocol.guidance} of {data}, which has no labels: set"
            " it to 1.0"
        )
    if protocol.copies > 1 and protocol.guidance_channels > row.channels:
        yield (
            f"{protocol.name}: guidance_channels = {protocol.guidance_channels} of"
            f" {data}'s {row.channels}: set it to {row.channels}"
        )


def sight_problems(data: str, protocol: Protocol) -> Iterator[str]:
    """A decoder that does not decode the dataset, an extractor that does not see its images."""
    row = DATASETS[data]
    decoders = [d for d, family in ENCODERS.items() if family == row.autoencoder] or ["identity"]
    if protocol.decoder not in decoders:
        yield (
            f"{protocol.name}: decoder = {protocol.decoder!r} does not decode {data}:"
            f" set it to {one_of_these(decoders)}"
        )
    if not EXTRACTORS[protocol.features].fits(row.seen):
        seeing = [n for n, one in EXTRACTORS.items() if one.fits(row.seen)]
        yield (
            f"{protocol.name}: features = {protocol.features!r} do not see {data}:"
            f" {f'set it to {one_of_these(seeing)}' if seeing else NO_EXTRACTOR}"
        )


def one_of_these(names: Iterable[str]) -> str:
    return " or ".join(map(repr, names))
