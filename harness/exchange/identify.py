"""Which run a checkpoint is: the one whose network has these tensors, by count, names, shapes."""

from __future__ import annotations

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
from harness.study.compute import network, parameters

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


def layout_of(run: Run) -> Layout:
    with torch.device("meta"):
        return layout(network(run).state_dict())


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


def candidates(fields: Mapping[str, Any]) -> dict[Run, int]:
    """Every run with these fields, of whatever else its network is built of, and its parameters.

    Raises:
        Mistakes: no model and dataset go with the fields.
    """
    made, fault = dict[Run, int](), list[str]()
    for values in builds(fields):
        parts = zip(("model", "data", "conditioning", "variant"), values, strict=True)
        try:
            run = Run(**{**fields, **dict(parts)})
            made[run] = parameters(run)
        except Mistakes as error:
            fault = fault or error.problems
        except UserError as error:  # it is no network of this dataset
            fault = fault or [str(error)]
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
    fits = [run for run, size in runs.items() if size == count and layout_of(run) == found]
    if len(fits) == 1:
        return fits[0]
    if fits:
        several = ", ".join(f"model={run.model} data={run.data}" for run in fits)
        raise UserError(f"{source} is one of {several}: add which")
    near = nearest(runs, found, count)
    wanted = layout_of(near)
    if not found.keys() & wanted.keys() and row is not OWN:
        raise UserError(
            f"{source} is {row.name}'s, of which no network is here: it is not imported"
        )
    raise UserError(
        f"{source} has the names of {row.name}, and no model here its {count:,} parameters; the"
        f" nearest is {near.model} on {near.data} ({near.conditioning}, objective"
        f" {near.objective or 'ddpm'}), where {differences(found, wanted)}: fetch the"
        " whole file, or add the model's row"
    )


def nearest(runs: Mapping[Run, int], found: Layout, count: int) -> Run:
    """Of the runs of the most alike sizes, the one with which most tensors agree."""
    alike = sorted(runs, key=lambda run: abs(math.log(runs[run] / max(count, 1))))[:NEAR]
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
    own = getattr(run.model_row, "heads", None)
    if heads not in (None, own):
        raise UserError(f"{source} has {heads} heads, {run.model} has {own}: add that model's row")
