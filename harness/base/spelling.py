"""User input: exact numbers normalised, hints for others, the nearest known name. No torch."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Collection, Iterable
from typing import Any

# What people write for a name that shares no letters with it.
SYNONYMS = {"learning_rate": "lr", "cfg": "guidance", "cfg_scale": "guidance"}


def suggestion(value: str, known: Collection[str]) -> str:
    """The nearest known name, where one is similar, and all there are."""
    synonym = SYNONYMS.get(value, "")
    near = [synonym] if synonym in known else difflib.get_close_matches(value, known, 1, 0.5)
    names = ", ".join(known)
    return f"did you mean {near[0]!r}? There are {names}" if near else f"there are {names}"


def plain(value: Any, kinds: Collection[type]) -> Any:
    """The value as one of these types where it is exactly that: 1 → 1.0, numpy.int64(3) → 3.

    Anything else stays: True, and a numpy.float32, which is 0.0001 only to its own precision.
    """
    if type(value) in kinds or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral) and int in kinds:
        return int(value)
    if isinstance(value, float | numbers.Integral) and float in kinds:
        return float(value)
    return str(value) if isinstance(value, str) and str in kinds else value


def remedy(value: Any, kinds: Collection[type]) -> str:
    """What to write for a number that is spelled as something else; "" where that is not clear."""
    if isinstance(value, bool) or not isinstance(value, str | numbers.Real):
        return ""
    try:
        number = float(str(value))  # a numpy.float32 prints the digits that it was written with
    except ValueError:
        return ""
    if int in kinds and number.is_integer():
        return f": write {int(number)}"
    return f": write {number!r}" if float in kinds else ""


def parts(value: Any) -> tuple[Any, ...]:
    """What a list, a range or an array holds; anything else is the one part."""
    several = isinstance(value, Iterable) and not isinstance(value, str)
    return tuple(value) if several else (value,)
