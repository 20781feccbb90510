"""`harness show`: one run of a store, all that is known of it. No torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.spelling import suggestion
from harness.base.text import aligned, duration, in_units
from harness.cli.verb import (
    Verb,
    add_cluster,
    add_json,
    add_rows,
    cluster_from,
    use_own_rows,
)
from harness.launch.failures import failures
from harness.metrics import value_names
from harness.spec import Run
from harness.study import compute, cost
from harness.study.logs import merged
from harness.study.registry import read_run
from harness.study.store import Store

MOST_METRICS = 5  # columns of a table of scores; --json has them all


def show_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's id or its beginning, or a model")
    add_cluster(parser)
    add_rows(parser)
    add_json(parser)


def show(args: argparse.Namespace) -> int:
    use_own_rows(args)
    store = Store(Path(cluster_from(args).store))
    found = show_json(find_run(args.run, store), store)
    print(json.dumps(found, indent=1) if args.json else show_text(found))
    return 0


SHOW = Verb(
    "show",
    "Shows one run: its fields, checkpoints, scores, cost, and where its files are.",
    "mini-DiT-S/4",
    show_options,
    show,
)


def find_run(name: str, store: Store) -> Run:
    """The run of the store with this id, or whose id begins so; DiT-S/2 begins those of DiT-S-2.

    Raises:
        UserError: none, or several.
    """
    if not store.root.exists():
        raise UserError(f"there is no store {store.root.resolve()}: --store names another")
    ids, begins = sorted(store.run_ids()), name.replace("/", "-")
    fits = [i for i in ids if i == begins] or [
        i for i in ids if i.startswith(begins + "_" * ("/" in name))
    ]
    if len(fits) == 1:
        return read_run(fits[0], store)
    if fits:
        raise UserError(f"{name!r} matches several runs: name one of {', '.join(fits)}")
    known = suggestion(name, ids) if ids else "it has none"
    raise UserError(f"{name!r} is no run of {store.root.resolve()}: {known}")


def show_json(run: Run, store: Store) -> dict[str, Any]:
    folder = store.run(run)
    attempts, _ = store.read_attempts(run)
    lines = merged(attempts)
    scores = list(read_scores(folder))
    return {
        "run": run.id,
        "folder": str(folder.resolve()),
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "fields": run.canonical(),
        "params": compute.parameters(run),
        "gflops": compute.gflops(run),
        "step": lines[-1]["step"] if lines else 0,
        "loss": lines[-1]["loss"] if lines else None,
        "checkpoints": [checkpoint_row(folder, step) for step in store.steps(run)],
        "imported": {
            step: read_json(store.imported(run, step)) for step in store.imported_steps(run)
        },
        "scores": scores,
        "attempts": len(attempts),
        "train_hours": cost.used_hours(attempts, []),
        "score_hours": cost.used_hours([], scores),
        "logs": [str(path.resolve()) for path in store.logs(run)],
        "errors": {
            task: line["error"]
            for task, line in failures(store).items()
            if task.partition("@")[0] == run.id
        },
    }


def checkpoint_row(folder: Path, step: int) -> dict[str, Any]:
    files = sorted((folder / "checkpoints" / f"{step:07d}").glob("[!.]*.safetensors"))
    return {"step": step, "bytes": {path.stem: path.stat().st_size for path in files}}


def read_scores(folder: Path) -> Iterator[dict[str, Any]]:
    """What the records of a run hold; one that cannot be read is for collect to name."""
    for path in sorted(folder.glob("evals/*/[0-9]*.json")):
        try:
            record = read_json(path)
        except (UserError, OSError):
            continue
        names = (
            "protocol",
            "step",
            "n",
            "values",
            "warnings",
            "seconds",
            "world",
            "device",
            "added",
        )
        yield {name: record.get(name) for name in names if name in record} | {"path": str(path)}


def show_text(found: dict[str, Any]) -> str:
    fields = [*found["fields"].items(), ("params", in_units(found["params"]))]
    fields += [("Gflops", f"{found['gflops']:.4g}")]
    parts = [
        f"{found['run']}: {in_units(found['bytes'])}B in {found['folder']}",
        aligned(("field", "value"), [(name, str(value)) for name, value in fields]),
        checkpoints_text(found["checkpoints"]),
        scores_text(found["scores"]),
        "\n".join(cost_lines(found)),
    ]
    return "\n\n".join(filter(None, parts))


def checkpoints_text(rows: list[dict[str, Any]]) -> str:
    kinds = sorted({kind for row in rows for kind in row["bytes"]})
    lines = []
    for row in rows:
        sizes = [f"{in_units(row['bytes'][k])}B" if k in row["bytes"] else "" for k in kinds]
        lines.append([str(row["step"]), *sizes])
    return aligned(["checkpoint", *kinds], lines) if rows else "no checkpoint"


def scores_text(rows: list[dict[str, Any]]) -> str:
    there = {name for row in rows for name in row.get("values", {})}
    known = [name for name in ("val_loss", *value_names()) if name in there]
    names = known[:MOST_METRICS]
    lines = [
        [
            row["protocol"],
            str(row["step"]),
            *(f"{row['values'][n]:.4g}" if n in row["values"] else "" for n in names),
        ]
        for row in rows
        if "values" in row
    ]
    return aligned(["protocol", "step", *names], lines) if lines else "no score"


def cost_lines(found: dict[str, Any]) -> Iterator[str]:
    for step, note in found["imported"].items():
        yield f"step {step} is imported from {note['source']}, SHA-256 {note['digest'][:12]}"
        yield from (f"  {line}" for line in note["corrected"])
    loss = "" if found["loss"] is None else f", loss {found['loss']:.4f}"
    if found["attempts"] or not found["imported"]:
        yield (
            f"trained to step {found['step']}{loss}: {duration(found['train_hours'])} of device"
            f" time in {found['attempts']} attempts; {duration(found['score_hours'])} of scoring"
        )
    yield from (f"log: {path}" for path in found["logs"])
    for task, error in found["errors"].items():
        yield f"failed: {task}: {error.removeprefix(f'{task}: ')}"
