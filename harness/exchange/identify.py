"""Which run a checkpoint is: the one whose network has these tensors, by count, names, shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.spelling import remedy, suggestion
from harness.base.validation import refuse, rules
from harness.exchange.contents import Contents
from harness.exchange.diffusers_names import depth_of
from harness.exchange.formats import OWN, Format
from harness.exchange.layouts import (
    Layout,
    candidates,
    differences,
    fitting,
    layout,
    layout_of,
    parameters_of,
    size,
    spelled,
)
from harness.models import MODELS, free_name
from harness.objectives import OBJECTIVES
from harness.spec import Run
from harness.study.choice import value_of
from harness.study.compute import network

# Families of free sizes: where the kernel of the patches and the blocks are, and blocks for each.
FREE = (
    ("DiT", "x_embedder.proj.weight", "blocks.", 1),
    ("U-ViT", "patch_embed.proj.weight", "in_blocks.", 2),
)
USUAL_HEAD = 64  # channels of a head of DiT, but for XL's 72
NEAR = 100  # runs of alike size that are compared tensor by tensor


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


def identified(
    source: str,
    row: Format,
    tensors: Mapping[str, Tensor],
    fields: Mapping[str, Any],
    heads: int | None = None,
) -> Run:
    """The run whose network has these tensors; `heads` of attention are known of some files.

    Raises:
        UserError: no model here has them, with the nearest; or several do.
    """
    found = layout(tensors)
    if fits := fitting(fields, found):
        if len(fits) > 1:
            raise UserError(f"{source} is one of {'; '.join(map(spelled, fits))}: add which")
        return fits[0]
    free = free_size(found, heads) if "model" not in fields else None
    if free and (fits := fitting({**fields, "model": free}, found)):
        if heads and len(fits) == 1:
            return fits[0]
        raise UserError(
            f"{source} has the sizes of {free}, which is in no table: add model={free}, with the"
            " width of its heads after h, which no tensor shows"
        )
    raise UserError(unknown(source, row, fields, found))


def free_size(found: Layout, heads: int | None) -> str | None:
    """The DiT or U-ViT of these sizes that is in no table; without known heads, of 64 a head."""
    for family, patches, blocks, each in FREE:
        kernel, depth = found.get(patches, ()), each * depth_of(found, blocks)
        if len(kernel) == 4 and depth:
            head = kernel[0] // heads if heads else math.gcd(kernel[0], USUAL_HEAD)
            name = free_name(family, kernel[0], depth, head, kernel[-1])
            return name if name in MODELS else None
    return None


def nearest(runs: Sequence[Run], found: Layout) -> Run:
    """Of the runs of the most alike sizes, the one with which most tensors agree."""
    count = parameters_of(found)
    alike = sorted(runs, key=lambda run: abs(math.log(size(run) / max(count, 1))))[:NEAR]

    def agreement(run: Run) -> int:
        wanted = layout_of(run)
        same = len(found.items() & wanted.items())
        return 2 * same - len(wanted)

    return max(alike, key=agreement)


def unknown(source: str, row: Format, fields: Mapping[str, Any], found: Layout) -> str:
    """Why no run was found, beside the nearest one."""
    near = nearest(candidates({"variant": None, **fields}), found)
    wanted, count = layout_of(near), parameters_of(found)
    if not found.keys() & wanted.keys() and row is not OWN:
        return f"{source} has the names of {row.name}, as no network here: it is not imported"
    for other in ("ddpm", "ddpm-fixed"):
        if layout_of(replace(near, objective=other)) == found:
            return (
                f"{source}: its last layer has the outputs of objective={other}, not of"
                f" {fields['objective']}: give that one"
            )
    return (
        f"{source} has the names of {row.name}, and no model here its {count:,} parameters; the"
        f" nearest is {spelled(near)} objective={near.objective or 'ddpm'}, where"
        f" {differences(found, wanted)}: {remedies(found, wanted)}"
    )


def remedies(found: Layout, wanted: Layout) -> str:
    """What to do about tensors that are absent, too many or of another shape."""
    lacking, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if extra and not lacking:
        return "save the network's own tensors alone, with what was added merged into them"
    if lacking and not extra and found.items() <= wanted.items():
        return "fetch the whole file"
    return "add the model's row by --rows, or give the model that it is of"


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
