"""The report of a study from its tables in results/, with what only the harness knows of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.base.errors import UserError
from harness.base.text import in_units
from harness.cli.plan import plan_json, plan_text
from harness.spec import Protocol, Run, Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

if TYPE_CHECKING:
    import pandas as pd

    from analysis.report import Context

PUBLISHED = "peebles2023"


@contextlib.contextmanager
def table_errors() -> Iterator[None]:
    """Turns the analysis' TableError into UserError; bugs pass with their traceback.

    Raises:
        UserError: a table does not hold what was asked of it.
    """
    from analysis.table import TableError

    try:
        yield
    except TableError as error:
        raise UserError(str(error)) from error


def name_of(study: str) -> str:
    """Returns the name under which `collect` writes a sweep: its own, not its file's."""
    return study if study == PUBLISHED else load_sweep(study).name


@table_errors()
def table(study: str, results: Path) -> pd.DataFrame:
    """Reads the tidy table of a sweep, or the published one.

    Raises:
        UserError: the sweep was not collected, or its table cannot be read.
    """
    from analysis.table import load, published

    if study == PUBLISHED:
        return published()
    path = results / f"{name_of(study)}.csv"
    if not path.exists():
        raise UserError(f"{path} is not there: run harness collect {study} first")
    return load(path)


@table_errors()
def report(
    studies: Sequence[str], cluster: Cluster, results: Path, out: Path | None, protocol: str | None
) -> Path:
    """Writes the page of one study, or of two side by side, and its files; returns its path.

    Raises:
        UserError: a table cannot be read, or two studies cannot be compared.
    """
    from analysis.report import Context, compare, write
    from analysis.table import load_log

    names = [name_of(study) for study in studies]
    out = out or results / "report" / "-".join(names)
    frames = [table(study, results) for study in studies]
    if len(studies) == 2:
        return compare(frames[0], frames[1], out)
    context = Context()
    if studies[0] != PUBLISHED:
        context = context_of(load_sweep(studies[0]), Store(Path(cluster.store)), cluster)
    log_path, samples_path = (results / f"{names[0]}_{end}" for end in ("log.csv", "samples.npz"))
    log = load_log(log_path) if log_path.exists() else None
    samples = samples_path if samples_path.exists() else None
    return write(names[0], frames[0], log, samples, out, context, protocol)


def summary(frame: pd.DataFrame, protocol: str | None = None) -> str:
    """States the scores by model and step and their correlation, or why there are none."""
    from analysis.correlation import correlation, correlation_text
    from analysis.table import TableError

    try:
        scores = scores_text(frame, protocol)
    except TableError as reason:
        return str(reason)
    try:
        return f"{scores}\n\n{correlation_text(correlation(frame, protocol=protocol))}"
    except TableError as reason:
        return f"{scores}\n\n{reason}"


def scores_text(frame: pd.DataFrame, protocol: str | None) -> str:
    from analysis.grid import axis_label, grid

    rows = grid(frame, "fid", protocol)
    rows = rows.assign(params=rows["params"].map(in_units), step=rows["step"].astype(int))
    scores = rows.pivot_table(
        index=["model", "params", "gflops"], columns="step", values="value", sort=False
    )
    text = scores.reset_index().to_string(
        index=False, na_rep="", float_format=lambda value: f"{value:.4g}"
    )
    units = "Gflops are forward multiply-adds of one image / 1e9"
    return f"{axis_label(rows)} by optimizer step; {units}\n{text}"


def context_of(sweep: Sweep, store: Store, cluster: Cluster) -> Context:
    """Returns what the page shows beside the numbers: question, plan, missing tasks, deviations."""
    from analysis.report import Context

    models = ", ".join(sorted({run.model for run in sweep.runs}))
    steps = ", ".join(map(str, sweep.steps))
    return Context(
        question=f"How do {len(sweep.runs)} models ({models}) compare at steps {steps}?",
        plan=plan_text(plan_json(sweep, store, cluster)),
        missing=[f"{task.id}: {task.reason}" for task in missing(sweep, store)],
        deviations=deviations(sweep.runs, Run) + deviations(sweep.protocols, Protocol),
        provenance={"protocols": ", ".join(protocol.id for protocol in sweep.protocols)},
    )


def deviations(
    parts: Sequence[Run | Protocol], cls: type[Run | Protocol]
) -> list[tuple[str, str, str]]:
    """Returns (field, default, value) where a sweep departs from the defaults, the paper's."""
    found = []
    for field in dataclasses.fields(cls):
        values = sorted({str(getattr(part, field.name)) for part in parts})
        if field.default is not dataclasses.MISSING and values not in ([], [str(field.default)]):
            found.append((field.name, str(field.default), ", ".join(values)))
    return found
