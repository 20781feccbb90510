"""The packages: which may import which, and which of them plan without torch."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from helpers import ROOT, environment

HARNESS = ROOT / "harness"
# Every package with those it may import beside itself. Two on one floor do not import each other.
BASE = {"base"}
ROWS = BASE | {"models", "data", "objectives", "extractors", "metrics"}
STUDY = ROWS | {"spec", "study"}
WORK = STUDY | {"encoding", "training", "scoring", "exchange"}
BELOW = {
    "base": set(),
    **dict.fromkeys(ROWS - BASE, BASE),
    "spec": ROWS,
    "study": ROWS | {"spec"},
    **dict.fromkeys(("encoding", "training", "scoring"), STUDY),
    "exchange": STUDY | {"scoring"},
    **dict.fromkeys(("launch", "bench"), WORK),
    "cli": WORK | {"launch", "bench"},
    "__main__": {"cli"},
}
LIGHT = ("spec", "study", "launch", "cli", *sorted(ROWS - BASE))
LIGHT_BASE = ("checksums", "commit", "errors", "files", "locks", "text", "validation")
HEAVY = {"torch", "fvcore", "diffusers", "pandas", "submitit"}


def package(path: Path) -> str:
    return path.relative_to(HARNESS).parts[0].removesuffix(".py")


def module(path: Path) -> str:
    """study/plan.py → study.plan; study/__init__.py → study."""
    parts = path.relative_to(HARNESS).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Dotted names below `harness` that these statements import."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("harness"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("harness.")}
    return {name.removeprefix("harness.") for name in names}


def when_loaded(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: none in functions or for types alone."""
    for child in ast.iter_child_nodes(node):
        types_alone = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not types_alone and not isinstance(child, ast.FunctionDef | ast.Lambda):
            yield child
            yield from when_loaded(child)


FILES = {module(path): path for path in HARNESS.rglob("*.py") if path.parent != HARNESS} | {
    module(path): path for path in HARNESS.glob("[!_]*.py")
}


def test_a_package_imports_only_packages_below_it() -> None:
    up = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in HARNESS.rglob("*.py")
        if path.name != "__init__.py" or path.parent != HARNESS
        for name in sorted(imported(ast.walk(ast.parse(path.read_text()))))
        if name.partition(".")[0] not in BELOW[package(path)] | {package(path), "__version__"}
    ]
    assert not up, "\n".join(up)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {}
    for name, path in FILES.items():
        names = imported(when_loaded(ast.parse(path.read_text())))
        modules = {found if found in FILES else found.rpartition(".")[0] for found in names}
        graph[name] = modules - {name, ""}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_what_plans_imports_no_torch() -> None:
    """Importing any file of the planning rooms, or a row of the tables, stays light."""
    names = [name for name in FILES if package(FILES[name]) in LIGHT[:4]]
    names += [*LIGHT, *(f"base.{name}" for name in LIGHT_BASE)]
    lines = [f"import harness.{name}" for name in names]
    lines += ["import sys", f"assert not (heavy := {HEAVY} & {{*sys.modules}}), heavy"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment(), cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_plan_imports_no_numpy() -> None:
    """It takes as long as all the rest of a plan does."""
    code = "from harness.cli.main import main; main(['plan', 'digits', '--store', '/nonexistent'])"
    check = f"import sys; assert not (heavy := {HEAVY | {'numpy'}} & {{*sys.modules}}), heavy"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {check}"], env=environment(), cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
