"""A sweep by name or path → its SWEEP; a problem of the file is one line."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

from harness.base.errors import UserError
from harness.base.scripts import script_errors
from harness.base.spelling import suggestion
from harness.spec import Sweep
from harness.study.choice import WORD, chosen

SWEEPS = Path(__file__).parents[2] / "sweeps"


def load_sweep(words: str) -> Sweep:
    """Runs a sweep's file; `digits lr=1e-3 seed=0,1` is that sweep with other fields.

    Raises:
        UserError: no such file, a file that does not run, or one that defines no SWEEP.
    """
    name, changes = split_words(words)
    return chosen(read_sweep(name), changes)


def split_words(words: str) -> tuple[str, list[str]]:
    """A name or a path, which may hold spaces, and the FIELD=VALUE words after it."""
    name, changes = words.split(" "), list[str]()
    while len(name) > 1 and WORD.fullmatch(name[-1]) and not Path(" ".join(name)).is_file():
        changes.insert(0, name.pop())
    return " ".join(name), changes


def sweep_path(name: str) -> Path:
    """The file of a sweep, by its name in sweeps/ or its path.

    Raises:
        UserError: it is not there.
    """
    path = Path(name) if name.endswith(".py") else SWEEPS / f"{name}.py"
    if path.is_file():
        return path
    if "/" in name or name.endswith(".py"):
        there = "a folder: name a .py file" if Path(name).is_dir() else "no such file"
        raise UserError(f"no sweep {name!r}: {there}, or one of {', '.join(sweep_names())}")
    raise UserError(
        f"no sweep {name!r}: {suggestion(name, sweep_names())}, or a path to a .py file"
    )


def docstring(words: str) -> str:
    """The docstring of a sweep's file, which is the study's title and abstract; "" without one.

    Raises:
        UserError: the file is not there.
    """
    path = sweep_path(split_words(words)[0])
    return ast.get_docstring(ast.parse(path.read_bytes())) or ""


def sweep_names() -> list[str]:
    """The sweeps that a name alone finds."""
    return sorted(p.stem for p in SWEEPS.glob("*.py") if not p.stem.startswith("_"))


def read_sweep(name: str) -> Sweep:
    path = sweep_path(name)
    with script_errors(path, "sweep file"):
        sweep = runpy.run_path(str(path)).get("SWEEP")
    if not isinstance(sweep, Sweep):
        raise UserError(
            f"{path} defines no SWEEP (found {type(sweep).__name__}): write SWEEP = Sweep(...)"
        )
    return sweep
