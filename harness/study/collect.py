"""Records and logs → results/<sweep>.csv, <sweep>_log.csv and <sweep>_samples.npz. No torch, no pandas."""

from __future__ import annotations

import csv
import filecmp
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.base.errors import UserError
from harness.base.files import atomic_write, read_json
from harness.models import MODELS
from harness.spec import Protocol, Run, Sweep
from harness.study import compute
from harness.study.store import SCHEMA, Store

COLUMNS = (
    "study source run model size patch conditioning data seed batch_size lr params gflops step images protocol metric"
    " value n features sampler sampling_steps guidance guidance_channels decoder weights reference labels checkpoint"
    " warning commit device seconds schema"
).split()
LOG_COLUMNS = (
    "study run model size patch conditioning seed batch_size gflops step loss mse vb grad_norm"
    " images_per_second mfu seconds"
).split()

Row = Mapping[str, Any]


def collect(sweep: Sweep, store: Store, out: Path) -> tuple[Path, int, list[str]]:
    """Writes the three files into the folder `out`; the table's path, its number of rows, and what is to be said.

    Raises:
        ValueError: a record of a newer schema, of another cell, or no JSON.
    """
    table = out / f"{sweep.name}.csv"
    count = write_csv(table, COLUMNS, rows(sweep, store))
    said: list[str] = []
    write_csv(out / f"{sweep.name}_log.csv", LOG_COLUMNS, log_rows(sweep, store, said))
    write_samples(out / f"{sweep.name}_samples.npz", sweep, store)
    return table, count, said


def write_csv(path: Path, columns: list[str], lines: Iterable[Row]) -> int:
    count = 0
    with atomic_write(path) as beside, beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for line in lines:
            writer.writerow(line)
            count += 1
        file.close()
        if path.exists() and filecmp.cmp(beside, path, shallow=False):
            os.utime(
                beside, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns)
            )  # unchanged: make has nothing to do
    return count


def describe(sweep: Sweep, run: Run, store: Store) -> dict[str, Any]:
    """The columns that scores and log lines of a run share."""
    row, path = MODELS[run.model], store.model(run)
    counted = (
        read_json(path)
        if path.exists()
        else {"params": compute.parameters(run), "gflops": compute.gflops(run)}
    )
    return {
        "study": sweep.name,
        "run": run.id,
        "model": run.model,
        "size": row.size,
        "patch": row.patch,
        "conditioning": run.conditioning,
        "seed": run.seed,
        "batch_size": run.batch_size,
        "gflops": counted["gflops"],
        "params": counted["params"],
    }


def rows(sweep: Sweep, store: Store) -> Iterator[Row]:
    """One row a value, in the sweep's order."""
    known = store.run_ids()
    for run in sweep.runs:
        if run.id not in known:
            continue
        shared = describe(sweep, run, store)
        for protocol in sweep.protocols:
            for step in sorted(store.scored(run, protocol) & set(sweep.steps)):
                yield from score_rows(shared, run, step, protocol, store)


def score_rows(shared: Row, run: Run, step: int, protocol: Protocol, store: Store) -> Iterator[Row]:
    path = store.record(run, step, protocol)
    record = read_json(path)
    if record.get("schema", 0) > SCHEMA:
        raise UserError(
            f"{path} has schema {record['schema']}, this harness reads up to {SCHEMA}: update the harness"
        )
    if (record.get("run"), record.get("step"), record.get("protocol")) != (
        run.id,
        step,
        protocol.id,
    ):
        raise UserError(f"{path} is the record of another cell: move it away and score again")
    fields = (
        "sampler",
        "sampling_steps",
        "guidance",
        "guidance_channels",
        "decoder",
        "weights",
        "labels",
    )
    for metric, value in record["values"].items():
        yield {
            **shared,
            **{field: getattr(protocol, field) for field in fields},
            "source": "measured",
            "data": run.data,
            "lr": run.lr,
            "step": step,
            "images": step * run.batch_size,
            "protocol": protocol.id,
            "metric": metric,
            "value": value,
            "n": record["n"],
            "features": protocol.features,
            "reference": f"{protocol.reference}-{record['reference']['digest'][:8]}",
            "checkpoint": record["checkpoint"][:12],
            "warning": "; ".join(record["warnings"]),
            "commit": record["commit"],
            "device": record["device"],
            "seconds": record["seconds"],
            "schema": SCHEMA,
        }


def log_rows(sweep: Sweep, store: Store, said: list[str]) -> Iterator[Row]:
    """One row a trained step; what had to be skipped goes to `said`."""
    for run in sweep.runs:
        lines, torn = store.read_log(run)
        said += torn
        if lines:
            shared = {k: v for k, v in describe(sweep, run, store).items() if k in LOG_COLUMNS}
            yield from ({**shared, **line} for line in lines)


def write_samples(path: Path, sweep: Sweep, store: Store) -> None:
    """The previews of the last scored step that all have, for Figure 7: the same noise and labels for every model."""
    for protocol, step in ((p, s) for s in reversed(sweep.steps) for p in sweep.protocols):
        there = [run for run in sweep.runs if store.preview(run, step, protocol).exists()]
        if len(there) == len(sweep.runs):
            break
    else:
        return
    previews = []
    for run in there:
        with np.load(store.preview(run, step, protocol), allow_pickle=False) as file:
            previews.append((file["images"], file["labels"]))
    arrays = {
        "images": np.stack([images for images, _ in previews]),
        "labels": previews[0][1],
        "model": np.array([run.model for run in there]),
        "step": np.array(step),
    }
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)
