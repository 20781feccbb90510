"""Writes docs/architecture.md from the first line of every file: `python docs/architecture.py`."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = (
    "cli launch bench encoding training scoring exchange study spec"
    " models objectives data extractors metrics base"
).split()
HEAD = """# Architecture

    sweep → missing(sweep, store) → tasks → [this machine | Slurm] → records → table → report

- Files are the only state. `missing(sweep, store)` compares a sweep with them: a pure
  function that imports no torch.
- Identity is not execution: `Run`, `Protocol` and `Sweep` are hashed; `Cluster` says where and how,
  and enters no id.
- Randomness is a function of position: world size, batch size and pre-emption change nothing
  that is measured.
- Planning imports no torch. `analysis` reads CSV tables and knows nothing of the harness.

Imports only go down, which `tests/test_house.py` checks:

    cli → launch, bench → exchange → encoding, training, scoring → study → spec
        → models, data, objectives, extractors, metrics → base

This page is written by `python docs/architecture.py` from the first line of each file.
"""


def summary(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def section(folder: Path) -> str:
    """A heading, what the folder is for, and a table of its files."""
    name, about = folder.relative_to(ROOT), summary(folder / "__init__.py")
    rows = [f"| `{path.name}` | {summary(path)} |" for path in sorted(folder.glob("[a-z]*.py"))]
    return "\n".join([f"## {name}", "", about, "", "| file | what it is |", "|---|---|", *rows])


def page() -> str:
    rooms = [section(ROOT / "harness" / room) for room in ROOMS]
    parts = [HEAD.rstrip(), *rooms, section(ROOT / "analysis")]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "architecture.md").write_text(page())
