"""Checks of fields: exact types, bounds, known names; all problems reported at once."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any

from harness.base.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Check = Callable[[Any], str | None]


def one_of(known: Collection[str]) -> Check:
    def check(value: str) -> str | None:
        if value in known:
            return None
        near = difflib.get_close_matches(value, known, 1, cutoff=0)
        return f"is unknown: did you mean {near[0]!r}? There are {', '.join(known)}"

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
    return (
        None
        if NAME.fullmatch(value)
        else "must be letters, digits, '.', '_' and '-': it becomes a file name"
    )


@functools.cache
def field_types(cls: Any) -> Mapping[str, tuple[type, ...]]:
    """The exact types each field accepts; typing's resolution is slow, and a sweep may hold 10,000 runs."""
    hints = typing.get_type_hints(cls)
    kinds = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
    return {
        name: typing.get_args(kind)
        if isinstance(kind, types.UnionType)
        else (typing.get_origin(kind) or kind,)
        for name, kind in kinds.items()
    }


def problems(spec: Any, checks: Mapping[str, Check]) -> list[str]:
    """Every field of `spec` that is not canonical (exact type, finite) or out of range, in words."""
    found = []
    for name, allowed in field_types(spec.__class__).items():
        value, fault = getattr(spec, name), None
        if (
            type(value) not in allowed
        ):  # exact: True is not an int, and 1 is not 1.0, where an id is at stake
            wanted = " or ".join(
                "None" if kind is types.NoneType else kind.__name__ for kind in allowed
            )
            fault = f"must be {wanted}, not {type(value).__name__}"
        elif isinstance(value, float) and not math.isfinite(value):
            fault = "must be finite"
        elif name in checks and value is not None:
            fault = checks[name](value)
        if fault:
            found.append(f"{name} = {value!r} {fault}")
    return found


class Mistakes(UserError):
    """Everything that is wrong with `what`, in one line."""

    def __init__(self, what: str, found: list[str]) -> None:
        super().__init__(f"{what}: " + "; ".join(found))
        self.problems = found


def refuse(what: str, found: list[str]) -> None:
    if found:
        raise Mistakes(what, found)
