"""Identity: strict fields, their canonical form, and the id that is its digest. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from collections.abc import Iterable
from typing import Any, Self

from harness.base.spelling import parts, plain, suggestion
from harness.base.validation import problems, refuse, rules

PRECISIONS = ("fp32", "tf32", "bf16")


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
        several = [
            name
            for name, rule in fields.items()
            if tuple not in rule.types and len(parts(getattr(self, name))) > 1
        ]
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
        return digest_of(self.canonical())


def digest_of(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
