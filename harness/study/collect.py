"""Records and logs → results/<sweep>.csv, <sweep>_log.csv and <sweep>_samples.npz. No torch."""

from __future__ import annotations

import contextlib
import csv
import filecmp
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import atomic_write, read_json
from harness.models import MODELS
from harness.spec import AnyProtocol, Protocol, Run, Sweep
from harness.study import compute
from harness.study.columns import (
    OF_PROTOCOL,
    OPTIONAL,
    SAMPLING_SEED,
    log_columns,
    score_columns,
    tokens_of,
)
from harness.study.logs import Attempt, changed_versions, gaps, merged
from harness.study.records import Record, read_record
from harness.study.samples import write_samples
from harness.study.store import SCHEMA, Store

Row = Mapping[str, Any]
Add = Callable[[Row], object]


def collect(sweep: Sweep, store: Store, out: Path) -> tuple[Path, int, list[str]]:
    """Writes the three files into the folder `out`. Returns (table, its number of rows, warnings).

    A damaged record is left out, as one that is absent: missing() asks for it again.

    Raises:
        UserError: a record is whole and yet not that of its cell, or of a newer schema.
    """
    table, known = out / f"{sweep.name}.csv", store.run_ids()
    count, warnings = 0, list[str]()
    with (
        csv_file(table, score_columns(sweep)) as add_score,
        csv_file(out / f"{sweep.name}_log.csv", log_columns(sweep)) as add_line,
    ):
        for run in sweep.runs:
            if run.id in known:
                values, found = collect_run(run, sweep, store, add_score, add_line)
                count, warnings = count + values, warnings + found
    warnings += write_samples(out / f"{sweep.name}_samples.npz", sweep, store)
    return table, count, warnings


def write_scores(path: Path, sweep: Sweep, store: Store) -> None:
    """Writes the table of scores alone."""
    known = store.run_ids()
    with csv_file(path, score_columns(sweep)) as add:
        for run in (run for run in sweep.runs if run.id in known):
            collect_run(run, sweep, store, add, lambda line: None)


@contextlib.contextmanager
def csv_file(path: Path, columns: Sequence[str]) -> Iterator[Add]:
    """Yields what adds a row to a table, which takes the place of `path` if it is another."""
    with atomic_write(path) as beside:
        with beside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            yield lambda row: writer.writerow(map(row.get, columns))
        if path.exists() and filecmp.cmp(beside, path, shallow=False):
            times = path.stat()  # unchanged: make has nothing to do
            os.utime(beside, ns=(times.st_atime_ns, times.st_mtime_ns))


def collect_run(
    run: Run, sweep: Sweep, store: Store, add_score: Add, add_line: Add
) -> tuple[int, list[str]]:
    """Adds the rows of a run to both tables. Returns (number of values, warnings)."""
    shared, warnings = describe(sweep, run, store)
    attempts, skipped = store.read_attempts(run)
    count, scored, damaged = 0, 0, []
    for protocol in sweep.protocols:
        records = store.recorded(run, protocol)
        for step in (s for s, p in sweep.scores_of(run) if p == protocol and s in records):
            if not records[step]:
                damaged.append(store.record(run, step, protocol))
                continue
            scored = max(scored, step)
            for row in score_rows(shared, run, step, protocol, store, attempts):
                add_score(row)
                count += 1
    lines = merged(attempts)
    for line in lines:
        add_line({**shared, **line})
    trained = [] if store.imported_steps(run) else [scored, *store.steps(run)[-1:]]
    absent = gaps(lines, max(trained, default=0))
    return count, [
        *warnings,
        *skipped,
        *(f"{path} is damaged and left out: harness run scores it again" for path in damaged),
        *([f"{run.id}: no log of steps {', '.join(absent)}: a log was lost"] if absent else []),
    ]


def describe(sweep: Sweep, run: Run, store: Store) -> tuple[Row, list[str]]:
    """The columns that scores and log lines of a run share. Returns (columns, warnings)."""
    row = MODELS[run.model]
    counts, warnings = counted(run, store)
    return {
        **run.canonical(),
        "study": sweep.name,
        "run": run.id,
        "size": row.size,
        "patch": row.patch_side,
        "family": row.family,
        "passes": row.passes(run.setting),
        "tokens": tokens_of(run),
        **counts,
    }, warnings


def counted(run: Run, store: Store) -> tuple[Row, list[str]]:
    """Parameters and Gflops in closed form, with a warning where model.json has others."""
    counts = {"gflops": compute.gflops(run), "params": compute.parameters(run)}
    path = store.model(run)
    try:
        written = read_json(path)
    except FileNotFoundError:
        return counts, []
    except UserError as error:
        return counts, [str(error)]
    if {name: written.get(name) for name in counts} == counts:
        return counts, []
    return counts, [
        f"{path} has other parameters or Gflops than {run.model}: they are left out; move it away"
    ]


def score_rows(
    shared: Row,
    run: Run,
    step: int,
    protocol: AnyProtocol,
    store: Store,
    attempts: Sequence[Attempt],
) -> Iterator[Row]:
    """One row a value of a record."""
    record = read_record(store, run, step, protocol)
    versions = changed_versions(attempts, step)
    common = {
        **shared,
        **{field: getattr(protocol, field, None) for field in (*OF_PROTOCOL, *OPTIONAL)},
        SAMPLING_SEED: protocol.seed if isinstance(protocol, Protocol) else None,
        "source": "measured",
        "step": step,
        "images": step * run.batch_size,
        "protocol": protocol.id,
        "n": record.n,
        "reference": f"{reference_name(protocol, record)}-{record.reference['digest'][:8]}",
        "checkpoint": record.checkpoint[:12],
        "warning": "; ".join(record.warnings + ([versions] if versions else [])),
        "commit": record.commit,
        "device": record.device,
        "seconds": record.seconds,
        "schema": SCHEMA,
    }
    for metric, value in record.values.items():
        yield {**common, "metric": metric, "value": value}


def reference_name(protocol: AnyProtocol, record: Record) -> str:
    """The protocol's; of a validation that of the held-out images."""
    if isinstance(protocol, Protocol):
        return protocol.reference
    return str(record.reference.get("name"))
