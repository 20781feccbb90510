"""The house: which package may import which, and which of them plan without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from helpers import ROOT, environment

HARNESS = ROOT / "harness"
# Every package with those it may import; itself comes along. Two on one floor do not know each other.
BASE = {"base"}
ROWS = BASE | {"models", "data", "objectives"}
STUDY = ROWS | {"spec", "study"}
WORK = STUDY | {"encoding", "training", "scoring"}
BELOW = {
    "base": set(),
    **dict.fromkeys(("models", "data", "objectives"), BASE),
    "spec": ROWS,
    "study": ROWS | {"spec"},
    **dict.fromkeys(("encoding", "training", "scoring"), STUDY),
    **dict.fromkeys(("launch", "bench"), WORK),
    "cli": WORK | {"launch", "bench"},
    "__main__": {"cli"},
}
LIGHT = ("spec", "study", "launch", "cli", "models", "data", "objectives")


def package(path: Path) -> str:
    return path.relative_to(HARNESS).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Dotted names below `harness` that a file imports, also within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("harness.")}
    return {name.removeprefix("harness.") for name in names}


def test_a_package_imports_only_packages_below_it() -> None:
    up = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in HARNESS.rglob("*.py")
        if path.name != "__init__.py" or path.parent != HARNESS
        for name in sorted(imported(path))
        if name.partition(".")[0] not in BELOW[package(path)] | {package(path), "__version__"}
    ]
    assert not up, "\n".join(up)


def test_what_plans_imports_no_torch() -> None:
    """Importing any file of the planning rooms, or a row of the tables, stays light."""
    rooms = [path for room in LIGHT[:4] for path in (HARNESS / room).glob("[a-z]*.py")]
    names = [
        f"harness.{path.relative_to(HARNESS).with_suffix('')}".replace("/", ".") for path in rooms
    ]
    lines = [f"import {name}" for name in [*names, *(f"harness.{room}" for room in LIGHT)]]
    lines.append(
        "import sys; heavy = {'torch', 'fvcore', 'diffusers', 'pandas', 'submitit'} & {*sys.modules}"
    )
    lines.append("assert not heavy, heavy")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment(), cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
