"""Which run a checkpoint is: the one whose network has these tensors, by count, names, shapes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.spelling import remedy, suggestion
from harness.base.validation import Mistakes, refuse, rules
from harness.data import DATASETS
from harness.exchange.contents import Contents
from harness.exchange.formats import Format
from harness.models import CONDITIONINGS, MODELS
from harness.spec import Run
from harness.study.choice import value_of
from harness.study.compute import network, parameters

NEAR = 40  # runs of alike size that are compared tensor by tensor
Layout = dict[str, tuple[int, ...]]
# Fields that a network's tensors tell; they are looked for where nobody gives them.
AXES: dict[str, Collection[str]] = {
    "model": MODELS,
    "data": DATASETS,
    "conditioning": CONDITIONINGS,
}


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
    if len(row.families) < 2:
        return "ddpm"
    ways = " or ".join(f"objective={name} ({family})" for name, family in row.families.items())
    raise UserError(f"{source} has {row.name}'s tensors, as several families do: add {ways}")


def layout(tensors: Mapping[str, Tensor]) -> Layout:
    return {name: tuple(x.shape) for name, x in tensors.items()}


def layout_of(run: Run) -> Layout:
    with torch.device("meta"):
        return layout(network(run).state_dict())


def candidates(fields: Mapping[str, Any]) -> list[Run]:
    """Every run with these fields: of each model, dataset and conditioning that is not given.

    Raises:
        Mistakes: no model and dataset go with the fields.
    """
    made, fault = list[Run](), list[str]()
    axes = [[fields[name]] if name in fields else [*table] for name, table in AXES.items()]
    for values in itertools.product(*axes):
        try:
            made.append(Run(**{**fields, **dict(zip(AXES, values, strict=True))}))
        except Mistakes as error:
            fault = fault or error.problems
    if not made:
        refuse("import", fault)
    return made


def identified(
    source: str, row: Format, tensors: Mapping[str, Tensor], fields: Mapping[str, Any]
) -> Run:
    """The run whose network has these tensors.

    Raises:
        UserError: no model here has them, with the nearest; or several do.
    """
    runs, found = candidates(fields), layout(tensors)
    count = sum(x.numel() for x in tensors.values())
    fits = [run for run in runs if parameters(run) == count and layout_of(run) == found]
    if len(fits) == 1:
        return fits[0]
    if fits:
        several = ", ".join(f"model={run.model} data={run.data}" for run in fits)
        raise UserError(f"{source} is one of {several}: add which")
    near = nearest(runs, found, count)
    raise UserError(
        f"{source} has the names of {row.name}, and no model here has its {count:,} parameters; the"
        f" nearest is {near.model} on {near.data} ({near.conditioning}, objective"
        f" {near.objective or 'ddpm'}), where {differences(found, layout_of(near))}: fetch the"
        " whole file, or add the model's row"
    )


def nearest(runs: Sequence[Run], found: Layout, count: int) -> Run:
    """Of the runs of the most alike sizes, the one with which most tensors agree."""
    alike = sorted(runs, key=lambda run: abs(math.log(parameters(run) / max(count, 1))))[:NEAR]
    return max(alike, key=lambda run: len(found.items() & layout_of(run).items()))


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


def check_heads(source: str, run: Run, heads: int | None) -> None:
    """Refuses another number of attention heads: the tensors are alike, the function is not.

    Raises:
        UserError: `heads` are not the model's.
    """
    if heads is not None and heads != MODELS[run.model].heads:
        raise UserError(
            f"{source} has {heads} heads, {run.model} has {MODELS[run.model].heads}: add a row of"
            " that model"
        )
