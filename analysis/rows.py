"""Rows of the statistics: a number, its interval and its method in one format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from analysis.correlation import MINUS
from analysis.table import TableError

T = TypeVar("T")
Row = dict[str, Any]


def attempt(name: str, make: Callable[[], T], missing: list[str]) -> T | None:
    """Returns what is made, or None after appending the name and the reason to `missing`."""
    try:
        return make()
    except TableError as reason:
        missing.append(f"{name}: {reason}.")
        return None


def in_form(value: float, form: str) -> str:
    """Returns a number in a format, without the sign of what is rounded to 0."""
    text = f"{value:{form}}"
    return text.lstrip("-") if not any(digit in text for digit in "123456789") else text


def row_of(
    statistic: str,
    value: float,
    bounds: tuple[float, float] | None,
    form: str,
    method: str,
    n: int,
    note: str = "",
    family: str = "",
) -> Row:
    """Returns a row whose numbers are written in one format; without bounds it has no interval."""
    low, high = bounds or (np.nan, np.nan)
    interval = f"[{in_form(low, form)}, {in_form(high, form)}]" if low <= high else ""
    return {
        "family": family,
        "statistic": statistic,
        "estimate": in_form(value, form).replace("-", MINUS),
        "interval": interval.replace("-", MINUS),
        "method": method if interval or not bounds else "",
        "n": n,
        "note": note,
        "value": value,
        "low": low,
        "high": high,
    }
