"""Checks of fields: exact types, bounds, known names; all problems reported at once."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.base.errors import UserError
from harness.base.spelling import remedy, suggestion

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
LONGEST_NAME = 100  # file systems end at 255, and names get an id, an ending, and a temporary one

Check = Callable[[Any], str | None]


def one_of(known: Collection[str]) -> Check:
    """A check that the value is known; names the nearest one."""

    def check(value: str) -> str | None:
        if value in known:
            return None
        return f"is unknown: {suggestion(value, known)}"

    return check


def within(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Check:
    """low ≤ value ≤ high; `above` and `below` leave the ends out."""

    def check(value: float) -> str | None:
        if (value > low if above else value >= low) and (value < high if below else value <= high):
            return None
        bounds = f"{'above' if above else 'at least'} {low:g}"
        return f"must be {bounds}" + (
            "" if high == math.inf else f" and {'below' if below else 'at most'} {high:g}"
        )

    return check


def safe_name(value: str) -> str | None:
    """A check that the value can be the name of a file."""
    if not NAME.fullmatch(value):
        return "must be letters, digits, '.', '_' and '-': it becomes a file name"
    if len(value) > LONGEST_NAME:
        return f"must be at most {LONGEST_NAME} letters long: it becomes a file name"
    return None


@dataclass(frozen=True)
class Rule:
    """What a field accepts: exact types, types of entries, and the checks of its annotation."""

    types: tuple[type, ...]
    entries: tuple[type, ...]  # of a list or a tuple, values of a dict; () of any, and of tables
    checks: tuple[Check, ...]
    tags: tuple[str, ...]


@functools.cache
def rules(cls: Any) -> Mapping[str, Rule]:
    """The rule of each field: `lr: Annotated[float, within(0, 1)]`; strings there are tags.

    Cached: typing's resolution is slow, and a sweep may hold 10,000 runs.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: rule(hints[field.name]) for field in dataclasses.fields(cls)}


def rule(hint: Any) -> Rule:
    notes = hint.__metadata__ if typing.get_origin(hint) is typing.Annotated else ()
    kind = hint.__origin__ if notes else hint
    args = () if isinstance(kind, types.UnionType) else typing.get_args(kind)
    entries = members(tuple(arg for arg in args if arg is not Ellipsis)[-1:])
    return Rule(
        types=members((kind,)),
        entries=() if {typing.Any, dict} & set(entries) else entries,
        checks=tuple(note for note in notes if callable(note)),
        tags=tuple(note for note in notes if isinstance(note, str)),
    )


def members(kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    """int | None → (int, NoneType); dict[str, str] → (dict,)."""
    return tuple(
        typing.get_origin(kind) or kind
        for union in kinds
        for kind in (typing.get_args(union) if isinstance(union, types.UnionType) else (union,))
    )


def tagged(cls: Any, *tags: str) -> tuple[str, ...]:
    """The fields of `cls` whose annotation has one of these tags."""
    return tuple(name for name, rule in rules(cls).items() if set(tags) & set(rule.tags))


def problems(spec: Any) -> list[str]:
    """Every field of `spec` that is of another type, not finite or out of range, in words."""
    found = []
    for name, rule in rules(spec.__class__).items():
        if here := value_problems(getattr(spec, name), rule):
            found += [name + problem for problem in here]
    return found


def value_problems(value: Any, rule: Rule) -> list[str]:
    """The problems of a field's value, as they go on after the field's name."""
    # exact: True is not an int, and 1 is not 1.0, where an id is at stake
    if type(value) not in rule.types:
        wanted = f"must be {names(rule.types)}, not {type(value).__name__}"
        return [f" = {value!r} {wanted}{remedy(value, rule.types)}"]
    if isinstance(value, float) and not math.isfinite(value):
        return [f" = {value!r} must be finite"]
    if value is None:
        return []
    faults = [fault for check in rule.checks if (fault := check(value))]
    found = [f" = {value!r} {fault}" for fault in faults] if faults else []
    return found + entry_problems(value, rule) if rule.entries else found


def entry_problems(value: Any, rule: Rule) -> list[str]:
    """The entries of a list or a dict that are of another type."""
    wanted = f"must be {names(rule.entries)}"
    if isinstance(value, dict):
        bad = {key: entry for key, entry in value.items() if type(entry) not in rule.entries}
        return [f".{key} = {entry!r} {wanted}" for key, entry in bad.items()]
    return [f" holds {entry!r}: {wanted}" for entry in value if type(entry) not in rule.entries]


def names(kinds: Iterable[type]) -> str:
    return " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in kinds)


class Mistakes(UserError):
    """Everything that is wrong with `what`, in one line."""

    def __init__(self, what: str, problems: list[str]) -> None:
        super().__init__(f"{what}: " + "; ".join(problems))
        self.problems = problems


def refuse(what: str, problems: list[str]) -> None:
    """Raises all problems of `what` in one line; returns where there are none.

    Raises:
        Mistakes: there are problems.
    """
    if problems:
        raise Mistakes(what, problems)
