"""The sweep that a verb found: Python that makes it again, in a file of its own. No torch."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import atomic_write
from harness.spec import AnyProtocol, Run, Sweep


def sweep_source(sweep: Sweep, about: str) -> str:
    """The file of a sweep."""
    kinds = sorted({"Sweep", *(type(part).__name__ for part in (*sweep.runs, *sweep.protocols))})
    lines = [f'"""{about}"""', "", f"from harness.spec import {', '.join(kinds)}", ""]
    lines += ["SWEEP = Sweep(", f"    name={sweep.name!r},"]
    if sweep.trained:
        lines += listing("trained", sweep.trained)
    else:
        lines += listing("runs", sweep.runs) + [f"    steps={sweep.steps!r},"]
    lines += listing("protocols", sweep.protocols)
    lines += [f"    keep={sweep.keep!r},"] * (sweep.keep != ("features",))
    return "\n".join([*lines, ")", ""])


def listing(field: str, parts: Iterable[Any]) -> list[str]:
    """A field of a sweep in its file: a tuple, or a dict with the steps of each."""
    own = parts if isinstance(parts, dict) else {}
    lines = [f"{source(part)}: {own[part]!r}," if own else f"{source(part)}," for part in parts]
    opened, closed = "{}" if own else "()"
    return [f"    {field}={opened}", *(f"        {line}" for line in lines), f"    {closed},"]


def deliver(
    found: dict[str, Any],
    args: argparse.Namespace,
    text: Callable[[dict[str, Any], Path | None], str],
) -> int:
    """Writes the sweep that was found to --out, where that is given, and prints what was found."""
    if args.out:
        with atomic_write(args.out) as beside:
            beside.write_text(found["sweep"])
    print(json.dumps(found, indent=1, ensure_ascii=False) if args.json else text(found, args.out))
    return 0


def require_new(out: Path | None) -> None:
    """Refuses an --out that is not a new Python file: a file that exists may have been edited.

    Raises:
        UserError: --out does not end in .py, or exists.
    """
    if out and out.suffix != ".py":
        raise UserError(f"--out {out}: give a file that ends in .py")
    if out and out.exists():
        raise UserError(f"--out {out} exists: move it away, or give another name")


def source(value: Run | AnyProtocol) -> str:
    """Python that makes the value again, without the fields at their defaults."""
    fields = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(fields)})"
