"""The report of a study from its tables in results/, with what only the harness knows of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.base.errors import UserError
from harness.base.text import in_units
from harness.cli.report_context import sweep_context
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.sweep_file import docstring, load_sweep, sweep_names

if TYPE_CHECKING:
    import pandas as pd

    from analysis.sections import Context

PUBLISHED = "peebles2023"
PAPER = """Scalable Diffusion Models with Transformers: the published numbers.

How does the quality of a latent diffusion transformer depend on its compute? Peebles and Xie (ICCV
2023) trained twelve sizes of DiT on ImageNet 256 × 256 for 400,000 steps; this page draws what
they printed, with the public reruns of their models beside it."""


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


class Study(NamedTuple):
    """What a word on the command line names: a table, and the sweep it was collected for."""

    name: str
    table: Path
    sweep: Sweep | None = None
    docstring: str = ""

    def beside(self, ending: str) -> Path | None:
        """Returns the file of that ending that `collect` wrote with the table, if it is there."""
        path = self.table.with_name(self.table.stem + ending)
        return path if path.is_file() else None


def find(study: str, results: Path) -> Study:
    """Returns a study: a sweep's, peebles2023, a CSV by path, or one by its name in `results`.

    Raises:
        UserError: there is no such sweep or table.
    """
    if study == PUBLISHED:
        from analysis.table import PUBLISHED as TABLE

        return Study(PUBLISHED, TABLE, docstring=PAPER)
    if study.endswith(".csv"):
        return Study(Path(study).stem, Path(study))
    path = results / f"{study}.csv"
    if study not in sweep_names() and path.is_file():
        return Study(study, path)
    sweep = load_sweep(study)
    return Study(sweep.name, results / f"{sweep.name}.csv", sweep, docstring(study))


@table_errors()
def table(study: str, results: Path) -> pd.DataFrame:
    """Reads the tidy table of a study.

    Raises:
        UserError: there is no such study, it was not collected, or its table cannot be read.
    """
    from analysis.table import load

    found = find(study, results)
    if not found.table.exists():
        remedy = f"run harness collect {study} first" if found.sweep else "give the path of a CSV"
        raise UserError(f"{found.table} is not there: {remedy}")
    return load(found.table)


@table_errors()
def report(
    studies: Sequence[str], cluster: Cluster, results: Path, out: Path | None, protocol: str | None
) -> Path:
    """Writes the page of one study, or of several side by side, and its files; returns its path.

    Raises:
        UserError: a table cannot be read, or no study has scores to draw.
    """
    from analysis.log import load_log
    from analysis.report import compare, write

    found = [find(study, results) for study in studies]
    out = out or results / "report" / "-".join(study.name for study in found)
    frames = [table(study, results) for study in studies]
    if len(studies) > 1:
        return compare(frames, out)
    study, frame = found[0], frames[0]
    log = load_log(path) if (path := study.beside("_log.csv")) else None
    from harness.cli.forecast import score

    store = Store(Path(cluster.store))
    context = context_of(study, store, cluster, frame)
    context = dataclasses.replace(context, forecasts=score(results, study.name, frame, store))
    return write(study.name, frame, log, study.beside("_samples.npz"), out, context, protocol)


def context_of(study: Study, store: Store, cluster: Cluster, frame: pd.DataFrame) -> Context:
    """Returns what the page says beside the numbers; of a table alone, nothing is missing."""
    from analysis.sections import Context

    title, abstract = story(study.docstring)
    if study.sweep is None:
        return Context(title=title, abstract=abstract)
    state = sweep_context(study.sweep, store, cluster, frame)
    return dataclasses.replace(state, title=title, abstract=abstract)


def story(docstring: str) -> tuple[str, str]:
    """Returns the title and the abstract: a docstring's first line, and the rest."""
    title, _, abstract = docstring.partition("\n")
    return title.strip().removesuffix("."), abstract.strip()


def summary(frame: pd.DataFrame, protocol: str | None = None) -> str:
    """States the scores by model and step and their correlation, or why there are none.

    Scores that share no axis are stated as the report draws them, part by part.
    """
    from analysis.grid import main_metric
    from analysis.parts import MOST, parts
    from analysis.table import TableError

    metric = main_metric(frame)
    try:
        return scores_and_correlation(frame, metric, protocol)
    except TableError as reason:
        found = [part for part in parts(frame, metric)[:MOST] if part.name and not protocol]
        texts = [f"{part.name}: {scores_and_correlation(part.table, metric)}" for part in found]
        return "\n\n".join(texts) or str(reason)


def scores_and_correlation(frame: pd.DataFrame, metric: str, protocol: str | None = None) -> str:
    """States the scores and their correlation, or why that is not known.

    Raises:
        TableError: no such score, or rows that cannot share an axis.
    """
    from analysis.correlation import correlation, correlation_text
    from analysis.table import TableError

    scores = scores_text(frame, metric, protocol)
    try:
        return f"{scores}\n\n{correlation_text(correlation(frame, metric, protocol))}"
    except TableError as reason:
        return f"{scores}\n\n{reason}"


def scores_text(frame: pd.DataFrame, metric: str, protocol: str | None) -> str:
    """The scores of every recipe of a model, by step, as means over its seeds."""
    from analysis.curves import apart
    from analysis.grid import axis_label, grid

    rows = grid(apart(frame, metric), metric, protocol)
    rows = rows.assign(params=rows["params"].map(in_units), step=rows["step"].astype(int))
    scores = rows.pivot_table(
        index=["model", "params", "gflops"], columns="step", values="value", sort=False
    )
    text = (
        scores.sort_index(axis=1)
        .reset_index()
        .to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
    )
    units = "Gflops are forward multiply-adds of one image / 1e9"
    return f"{axis_label(rows)} by optimizer step; {units}\n{text}"
