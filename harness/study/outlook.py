"""What unfinished runs will score at their last step, by the finished ones. No torch."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.base.errors import UserError
from harness.spec import Sweep
from harness.study.collect import write_scores
from harness.study.plan import Cell
from harness.study.store import Store

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("fid", "val_loss")  # in this order; both are better when lower


class Outlook(NamedTuple):
    """A run's score at its last step, predicted from its score at `step`: 95 % interval."""

    metric: str
    step: int
    last: int
    prediction: float
    low: float
    high: float
    dominated_by: str  # a finished run of at most its compute that scored less than `low`


def outlook(sweep: Sweep, cells: Sequence[Cell], store: Store) -> dict[str, Outlook]:
    """The outlook of each unfinished run that has a score, by its id; of all by one metric.

    Empty where the finished runs are too few, and of runs that end at different steps.
    """
    unfinished = {cell.run.id for cell in cells if cell.tasks and cell.scores}
    if not unfinished or all(cell.tasks for cell in cells):
        return {}  # pandas, which the analysis imports, takes as long as all the rest of a status
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.csv"
        try:
            write_scores(path, sweep, store)
        except UserError:  # a record of something else: collect names it
            return {}
        found = dict(predicted(path, [protocol.id for protocol in sweep.protocols]))
    return {run: seen for run, seen in found.items() if run in unfinished}


def predicted(path: Path, protocols: Sequence[str]) -> Iterator[tuple[str, Outlook]]:
    """Yields the runs of the first metric and protocol that has running curves."""
    from analysis import running
    from analysis.table import TableError, load

    table = load(path)
    for metric, protocol in itertools.product(METRICS, (None, *protocols)):
        try:
            rows = running.running(table, metric, protocol)
        except TableError:  # of one step, another metric, or too few runs
            continue
        found = running.ongoing(rows, table)
        if len(found):
            yield from outlooks(found, metric)
            return


def outlooks(rows: pd.DataFrame, metric: str) -> Iterator[tuple[str, Outlook]]:
    for row in rows.to_dict("records"):
        numbers: dict[str, Any] = {name: float(row[name]) for name in ("prediction", "low", "high")}
        steps = {"step": int(row["step"]), "last": int(row["last"])}
        yield row["run"], Outlook(metric, **steps, **numbers, dominated_by=row["dominated_by"])
