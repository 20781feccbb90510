"""Which run a checkpoint is: the one whose network has these tensors, by count, names, shapes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.spelling import remedy, suggestion
from harness.base.validation import Mistakes, refuse, rules
from harness.data import DATASETS
from harness.exchange.contents import Contents
from harness.exchange.formats import OWN, Format
from harness.models import MODELS
from harness.objectives import OBJECTIVES
from harness.spec import Run
from harness.study.choice import value_of
from harness.study.compute import network

NEAR = 40  # runs of alike size that are compared tensor by tensor
Layout = dict[str, tuple[int, ...]]
Builds = tuple[str, str, str | None, str | None]  # model, data, conditioning, variant


def given_fields(words: Sequence[str]) -> dict[str, Any]:
    """The fields of a Run in `batch_size=128 seed=1`.

    Raises:
        UserError: a word names no field, or its value is none of the field's.
    """
    known, fields, found = rules(Run), dict[str, Any](), list[str]()
    for word in words:
        name, _, text = word.partition("=")
        if name not in known:
            found.append(f"{name} is no field of a run: {suggestion(name, known)}")
        elif (value := value_of(text, known[name].types)) is None:
            kinds = known[name].types
            found.append(f"{word}: must be {kinds[0].__name__}{remedy(text, kinds)}")
        else:
            fields[name] = value
    refuse("import", found)
    return fields


def stated_fields(source: str, contents: Contents, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the user gives and the file states, which must not contradict each other.

    Raises:
        UserError: they do.
    """
    stated = contents.fields
    apart = [
        f"{name} = {given[name]} was given, {source} states {stated[name]}"
        for name in given
        if stated.get(name, given[name]) != given[name]
    ]
    refuse("import", apart)
    return {**stated, **given}


def objective_of(source: str, row: Format, fields: Mapping[str, Any]) -> str:
    """The objective of a checkpoint.

    Raises:
        UserError: several families have these names, and nothing says which it is.
    """
    if fields.get("objective"):
        return str(fields["objective"])
    if len(row.families) == 1:
        return next(iter(row.families))
    ways = " or ".join(f"objective={name} ({family})" for name, family in row.families.items())
    ways = ways or f"objective=, one of {', '.join(OBJECTIVES)}"
    raise UserError(
        f"{source} has {row.name}'s tensors, which do not show the objective: add {ways}"
    )


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


def identified(
    source: str, row: Format, tensors: Mapping[str, Tensor], fields: Mapping[str, Any]
) -> Run:
    """The run whose network has these tensors.

    Variants come last: one may have the plain network's tensors and another function.

    Raises:
        UserError: no model here has them, with the nearest; or several do.
    """
    found, count = layout(tensors), sum(x.numel() for x in tensors.values())
    runs = list[Run]()
    for given in ({"variant": None, **fields}, fields):
        runs = sorted(candidates(given), key=has_to_be_built)
        for _, same in itertools.groupby(runs, has_to_be_built):
            fits = [run for run in same if size(run) == count and layout_of(run) == found]
            if len(fits) == 1:
                return fits[0]
            if fits:
                raise UserError(f"{source} is one of {'; '.join(map(spelled, fits))}: add which")
    raise UserError(unknown(source, row, nearest(runs, found, count), found, count))


def spelled(run: Run) -> str:
    """The fields that say what a network is built of."""
    names = ("model", "data", "conditioning", "variant")
    return " ".join(f"{name}={value}" for name in names if (value := getattr(run, name)))


def nearest(runs: Sequence[Run], found: Layout, count: int) -> Run:
    """Of the runs of the most alike sizes, the one with which most tensors agree."""
    alike = sorted(runs, key=lambda run: abs(math.log(size(run) / max(count, 1))))[:NEAR]
    return max(alike, key=lambda run: len(found.items() & layout_of(run).items()))


def unknown(source: str, row: Format, near: Run, found: Layout, count: int) -> str:
    """Why no run was found, beside the nearest one."""
    wanted = layout_of(near)
    if not found.keys() & wanted.keys() and row is not OWN:
        return f"{source} has the names of {row.name}, as no network here: it is not imported"
    return (
        f"{source} has the names of {row.name}, and no model here its {count:,} parameters; the"
        f" nearest is {spelled(near)} objective={near.objective or 'ddpm'}, where"
        f" {differences(found, wanted)}: fetch the whole file, or add the model's row"
    )


def differences(found: Layout, wanted: Layout) -> str:
    """The first tensors that are absent, too many or of another shape."""
    lacking, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = [n for n in wanted if n in found and found[n] != wanted[n]]
    parts = []
    if other:
        name = other[0]
        more = f" (and {len(other) - 1} more)" if len(other) > 1 else ""
        parts.append(f"{name} is {shape(wanted[name])}, not {shape(found[name])}{more}")
    for names, text in ((lacking, "is absent here"), (extra, "is not there")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            parts.append(f"{names[0]}{more} {text}")
    return "; ".join(parts)


def shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes)) or "a number"


def check_numbers(source: str, run: Run, tensors: Mapping[str, Tensor]) -> None:
    """Refuses integers where the network has floating point, as quantised weights have them.

    Raises:
        UserError: naming the first such tensor.
    """
    with torch.device("meta"):
        wanted = network(run).state_dict()
    for name, x in tensors.items():
        if x.is_floating_point() != wanted[name].is_floating_point():
            kind, own = (str(y.dtype).removeprefix("torch.") for y in (x, wanted[name]))
            raise UserError(
                f"{source}: {name} is {kind}, {run.model} has {own}: save the weights in fp32"
            )


def check_heads(source: str, run: Run, heads: int | None) -> None:
    """Refuses another number of attention heads: the tensors are alike, the function is not.

    Raises:
        UserError: `heads` are not the model's.
    """
    own = getattr(run.model_row, "heads", None)
    if heads not in (None, own):
        raise UserError(f"{source} has {heads} heads, {run.model} has {own}: add that model's row")
