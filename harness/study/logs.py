"""Training logs: the lines of all attempts merged, their gaps, and versions that changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.base.checksums import spans

Line = Mapping[str, Any]
Attempt = Sequence[Line]

# What the line of a step may hold beside it; mfu is None where the device's peak is not known.
NUMBERS = frozenset(["loss", "mse", "vb", "grad_norm", "images_per_second", "mfu", "seconds"])


def is_log_line(line: Line) -> bool:
    """Whether a line is the head of an attempt, or of a step and finite numbers alone."""
    if "start" in line:
        return type(line["start"]) is int and type(line.get("world", 1)) is int
    numbers = {name: value for name, value in line.items() if name != "step"}
    return (
        type(line.get("step")) is int
        and numbers.get("loss") is not None
        and numbers.keys() <= NUMBERS
        and all(value is None or is_finite(value) for value in numbers.values())
    )


def is_finite(value: object) -> bool:
    """Whether a value from JSON is a number, and not one beyond floats."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def merged(attempts: Iterable[Iterable[Line]]) -> list[dict[str, Any]]:
    """One line a step, the latest attempt's where two overlap."""
    by_step = {line["step"]: dict(line) for lines in attempts for line in lines if "loss" in line}
    return [by_step[step] for step in sorted(by_step)]


def gaps(lines: Iterable[Line], last: int) -> list[str]:
    """The steps until `last`, or until the last line's, that no line is of, as spans."""
    there = {line["step"] for line in lines}
    return spans(sorted({*range(1, max(last, *there, 0) + 1)} - there))


def changed_versions(attempts: Iterable[Attempt], step: int) -> str:
    """The packages of which training until `step` had several versions; "" where none."""
    heads = [lines[0] for lines in attempts if lines and lines[0].get("start", step) < step]
    versions = [head["versions"] for head in heads if isinstance(head.get("versions"), dict)]
    changed = []
    for package in sorted({name for taken in versions for name in taken}):
        several = dict.fromkeys(str(taken[package]) for taken in versions if package in taken)
        if len(several) > 1:
            changed.append(f"{package} {' → '.join(several)}")
    return f"trained under several versions: {', '.join(changed)}" if changed else ""
