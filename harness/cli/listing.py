"""`harness list`: the sweeps, and the runs of a store. No torch."""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.text import aligned
from harness.cli.verb import (
    Verb,
    add_cluster,
    add_json,
    add_rows,
    cluster_from,
    use_own_rows,
)
from harness.spec import Run, Sweep
from harness.study.registry import read_run
from harness.study.store import Store
from harness.study.sweep_file import load_sweep, sweep_names, sweep_path
from harness.study.varying import varying


def list_options(parser: argparse.ArgumentParser) -> None:
    add_cluster(parser)
    add_rows(parser)
    add_json(parser)


def list_all(args: argparse.Namespace) -> int:
    use_own_rows(args)
    found = list_json(Store(Path(cluster_from(args).store)))
    print(json.dumps(found, indent=1) if args.json else list_text(found))
    return 0


LIST = Verb(
    "list", "Lists the sweeps, and the runs of a store.", "--store store", list_options, list_all
)


def list_json(store: Store) -> dict[str, Any]:
    """Every sweep by name, and every run of the store with what it has."""
    sweeps, runs = dict(known_sweeps()), dict(known_runs(store))
    known = [run for run in runs.values() if isinstance(run, Run)]
    return {
        "store": str(store.root.resolve()),
        "store_exists": store.root.exists(),
        "sweeps": [sweep_row(name, sweep, runs) for name, sweep in sweeps.items()],
        "varies": varying(known),
        "runs": [run_row(name, run, sweeps, store) for name, run in runs.items()],
    }


def known_sweeps() -> Iterator[tuple[str, Sweep | str]]:
    """The sweeps that a name finds; of a file that does not run, the reason."""
    for name in sweep_names():
        try:
            yield name, load_sweep(name)
        except UserError as error:
            yield name, str(error)


def known_runs(store: Store) -> Iterator[tuple[str, Run | str]]:
    """The runs of a store by id; of one whose run.json is not readable, the reason."""
    for name in sorted(store.run_ids()):
        try:
            yield name, read_run(name, store)
        except FileNotFoundError:
            yield name, "not started: it has no run.json yet"
        except (UserError, OSError, TypeError) as error:
            yield name, str(error)


def sweep_row(name: str, sweep: Sweep | str, runs: dict[str, Run | str]) -> dict[str, Any]:
    text = ast.get_docstring(ast.parse(sweep_path(name).read_text())) or ""
    row = {"sweep": name, "about": text.partition("\n")[0]}
    if isinstance(sweep, str):
        return {**row, "runs": 0, "in_store": 0, "steps": [], "protocols": [], "error": sweep}
    return {
        **row,
        "runs": len(sweep.runs),
        "in_store": sum(run.id in runs for run in sweep.runs),
        "steps": sweep.steps,
        "protocols": [protocol.id for protocol in sweep.protocols],
        "error": "",
    }


def run_row(
    name: str, run: Run | str, sweeps: dict[str, Sweep | str], store: Store
) -> dict[str, Any]:
    if isinstance(run, str):
        return {"run": name, "fields": {}, "steps": [], "scores": 0, "sweeps": [], "error": run}
    of = [n for n, s in sweeps.items() if isinstance(s, Sweep) and name in {r.id for r in s.runs}]
    return {
        "run": name,
        "fields": run.canonical(),
        "steps": [step for step in store.steps(run) if store.ema(run, step).exists()],
        "scores": sum(1 for _ in store.run(run).glob("evals/*/[0-9]*.json")),
        "sweeps": of,
        "error": "",
    }


def list_text(found: dict[str, Any]) -> str:
    sweeps = [
        [s["sweep"], str(s["runs"]), str(s["in_store"]), s["error"] or s["about"]]
        for s in found["sweeps"]
    ]
    names = found["varies"]
    runs = [
        [
            row["run"],
            *(str(row["fields"].get(name, "")) for name in names),
            ", ".join(map(str, row["steps"])),
            str(row["scores"]),
            row["error"] or ", ".join(row["sweeps"]),
        ]
        for row in found["runs"]
    ]
    absent = ", which does not exist: --store names another" * (not found["store_exists"])
    parts = [aligned(["sweep", "runs", "in store", "about"], sweeps)]
    if runs:
        parts.append(aligned(["run", *names, "checkpoints", "scores", "sweeps"], runs))
    return "\n\n".join([*parts, f"{len(runs)} runs in {found['store']}{absent}"])
