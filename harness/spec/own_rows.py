"""Rows of your own: a Python file beside a sweep that adds to MODELS and the like. No torch."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.base.errors import UserError
from harness.base.scripts import script_errors
from harness.data import DATASETS
from harness.extractors import EXTRACTORS
from harness.metrics import METRICS
from harness.models import MODELS
from harness.objectives import OBJECTIVES

# The tables that a file may add to, by the field that names one of their rows.
TABLES: Mapping[str, dict[str, Any]] = {
    "model": MODELS,
    "data": DATASETS,
    "objective": OBJECTIVES,
    "features": EXTRACTORS,
    "metric": METRICS,
}
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\.py")


@dataclass(frozen=True)
class RowsFile:
    """A file that was loaded: the digest of its text, and the rows it added, by field."""

    path: Path
    digest: str
    rows: Mapping[str, frozenset[str]]


LOADED: dict[str, RowsFile] = {}  # by the file's name


def use_rows(path: str | Path) -> None:
    """Runs a Python file that adds rows: `MODELS["mine/S"] = Mine(...)` and the like.

    A sweep's file calls it before it names the rows: use_rows(Path(__file__).with_name("rows.py")).
    Jobs carry a copy of the file. It imports installed packages alone, and torch only where a
    row is built: plans do without it.

    Raises:
        UserError: the file is absent, does not run, adds no row, or replaces one.
    """
    path = Path(path).resolve()
    text, name = read(path), path.name
    digest = hashlib.sha256(text).hexdigest()[:12]
    if name in LOADED and LOADED[name].digest == digest:
        return
    if name in LOADED:
        raise UserError(f"{path} and {LOADED[name].path} have one name: rename one of them")
    before = {field: dict(table) for field, table in TABLES.items()}
    try:
        run_file(path, text)
        rows = added(path, before)
    except BaseException:
        restore(before)
        raise
    LOADED[name] = RowsFile(path, digest, rows)


def read(path: Path) -> bytes:
    """The text of a file of rows.

    Raises:
        UserError: it is not there, or has a name that Python cannot import.
    """
    if not NAME.fullmatch(path.name):
        raise UserError(f"{path}: a file of rows is named as a Python module: rename it")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: name the file that adds the rows") from None


def run_file(path: Path, text: bytes) -> None:
    """Runs the text as the module harness_rows_NAME, under which its rows can be pickled."""
    spec = importlib.util.spec_from_file_location(f"harness_rows_{path.stem}", path)
    assert spec is not None
    module = ModuleType(spec.name)
    module.__file__, module.__spec__ = str(path), spec
    sys.modules[spec.name] = module
    with script_errors(path, "file of rows"):
        exec(compile(text, str(path), "exec"), module.__dict__)


def added(path: Path, before: Mapping[str, Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """The rows that a file added, by field.

    Raises:
        UserError: it added none, or replaced some.
    """
    replaced = [
        name
        for field, rows in before.items()
        for name, row in rows.items()
        if TABLES[field].get(name) is not row
    ]
    if replaced:
        raise UserError(f"{path} replaces {', '.join(replaced)}: give rows of yours other names")
    rows = {field: frozenset(table.keys() - before[field]) for field, table in TABLES.items()}
    if not any(rows.values()):
        tables = ", ".join(f"{field} rows" for field in TABLES)
        raise UserError(f"{path} adds no rows: add to the tables of {tables}, or do without it")
    return rows


def restore(before: Mapping[str, Mapping[str, Any]]) -> None:
    for field, rows in before.items():
        TABLES[field].clear()
        TABLES[field].update(rows)


def digests(*parts: object, metrics: Iterable[str] = ()) -> dict[str, str]:
    """The files of rows that a run, its protocol and its metrics name, with their digests."""
    named = {(field, getattr(part, field, None)) for part in parts for field in TABLES}
    named |= {("metric", name) for name in metrics}
    return {
        name: file.digest
        for name, file in sorted(LOADED.items())
        if any(row in file.rows.get(field, ()) for field, row in named)
    }
