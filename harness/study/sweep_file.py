"""A sweep by name or path → its SWEEP; a problem of the file is one line."""

from __future__ import annotations

import ast
import difflib
import runpy
import traceback
from pathlib import Path

from harness.base.errors import UserError
from harness.spec import Sweep

SWEEPS = Path(__file__).parents[2] / "sweeps"


def sweep_path(name: str) -> Path:
    """Returns where a sweep of that name lies, or the path itself."""
    return Path(name) if name.endswith(".py") else SWEEPS / f"{name}.py"


def docstring(name: str) -> str:
    """Returns the docstring of a sweep's file, the study's title and abstract; "" without one."""
    return ast.get_docstring(ast.parse(sweep_path(name).read_bytes())) or ""


def load_sweep(name: str) -> Sweep:
    """Runs a sweep's file.

    Raises:
        UserError: no such file, a file that does not run, or one that defines no SWEEP.
    """
    path = sweep_path(name)
    if not path.is_file():
        known = sorted(p.stem for p in SWEEPS.glob("*.py") if not p.stem.startswith("_"))
        near = difflib.get_close_matches(path.stem, known, 1, cutoff=0)
        raise UserError(
            f"no sweep {name!r}: did you mean {', '.join(near)}? There are {', '.join(known)},"
            " or a path to a .py file"
        )
    try:
        sweep = runpy.run_path(str(path)).get("SWEEP")
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}: fix the sweep file") from None
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        line = next(
            (
                f.lineno
                for f in reversed(traceback.extract_tb(error.__traceback__))
                if f.filename == str(path)
            ),
            0,
        )
        kind = (
            ""
            if isinstance(error, ValueError)
            else f" ({type(error).__name__}): fix the sweep file"
        )
        raise UserError(f"{path}:{line}: {' '.join(str(error).split())}{kind}") from None
    if not isinstance(sweep, Sweep):
        raise UserError(
            f"{path} defines no SWEEP (found {type(sweep).__name__}): write SWEEP = Sweep(...)"
        )
    return sweep
