"""Names and shapes of a checkpoint's tensors, and the runs whose networks have them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.base.validation import Mistakes, refuse
from harness.data import DATASETS
from harness.models import MODELS
from harness.spec import Run
from harness.study.compute import network

Layout = dict[str, tuple[int, ...]]
Builds = tuple[str, str, str | None, str | None]  # model, data, conditioning, variant


def layout(tensors: Mapping[str, Tensor]) -> Layout:
    return {name: tuple(x.shape) for name, x in tensors.items()}


@functools.lru_cache(maxsize=1024)
def layout_of(run: Run) -> Layout:
    with torch.device("meta"):
        return layout(network(run).state_dict())


def size(run: Run) -> int:
    """Parameters: in closed form, else of the network built on the meta device, without a pass."""
    known = run.model_row.counts(run.setting)
    return known.parameters if known else sum(map(math.prod, layout_of(run).values()))


def builds(fields: Mapping[str, Any]) -> Iterator[Builds]:
    """What the networks could be built of, where the fields do not say."""

    def known(name: str, others: Iterable[str | None]) -> Iterable[str | None]:
        return [fields[name]] if name in fields else others

    for model in known("model", MODELS):
        row = MODELS.get(str(model))
        conditionings = known("conditioning", (row and row.conditionings) or (None,))
        variants = known("variant", (None, *(row.variants if row else ())))
        for data in known("data", DATASETS):
            for conditioning, variant in itertools.product(conditionings, variants):
                yield str(model), str(data), conditioning, variant


def candidates(fields: Mapping[str, Any]) -> list[Run]:
    """Every run with these fields, of whatever else its network is built of.

    Raises:
        Mistakes: no model and dataset go with the fields.
    """
    made, fault = list[Run](), list[str]()
    for values in builds(fields):
        parts = zip(("model", "data", "conditioning", "variant"), values, strict=True)
        try:
            made.append(Run(**{**fields, **dict(parts)}))
        except Mistakes as error:
            fault = fault or error.problems
    if not made:
        refuse("import", fault)
    return made


def has_to_be_built(run: Run) -> bool:
    """Whether its parameters are not at hand in closed form."""
    return run.model_row.counts(run.setting) is None


def fitting(fields: Mapping[str, Any], found: Layout) -> list[Run]:
    """The runs with these fields whose networks have these tensors, of whatever else.

    Variants come last: one may have the plain network's tensors and another function.
    """
    count = parameters_of(found)
    for given in ({"variant": None, **fields}, fields):
        runs = sorted(candidates(given), key=has_to_be_built)
        for _, same in itertools.groupby(runs, has_to_be_built):
            if fits := [run for run in same if size(run) == count and layout_of(run) == found]:
                return fits
    return []


def parameters_of(found: Layout) -> int:
    return sum(map(math.prod, found.values()))


def spelled(run: Run) -> str:
    """The fields that say what a network is built of."""
    names = ("model", "data", "conditioning", "variant")
    return " ".join(f"{name}={value}" for name in names if (value := getattr(run, name)))


def differences(found: Layout, wanted: Layout) -> str:
    """The first tensors that are absent, too many or of another shape."""
    lacking, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = [n for n in wanted if n in found and found[n] != wanted[n]]
    parts = []
    if other:
        name = other[0]
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        parts.append(f"{name} is {shape(wanted[name])}, not {shape(found[name])}{more}")
    for names, text in ((lacking, "is absent here"), (extra, "does not belong")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            parts.append(f"{names[0]}{more} {text}")
    return "; ".join(parts)


def shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes)) or "a number"
