"""The report of a study: its tables from results/, and what only the harness knows of it. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UserError
from harness.base.text import in_units
from harness.cli.tables import plan_json, plan_text
from harness.spec import Protocol, Run, Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = "peebles2023"


def table(study: str, results: Path) -> pd.DataFrame:
    """The tidy table of a sweep, or the published one.

    Raises:
        ValueError: the sweep was not collected, or its table cannot be read.
    """
    from analysis import tables

    if study == PUBLISHED:
        return tables.published()
    path = results / f"{Path(study).stem}.csv"
    if not path.exists():
        raise UserError(f"{path} is not there: run harness collect {study} first")
    return tables.load(path)


def report(
    studies: Sequence[str], cluster: Cluster, results: Path, out: Path | None, protocol: str | None
) -> Path:
    """Writes the page of one study, or of two side by side, with all figures; the page's path."""
    from analysis import report as page
    from analysis import tables

    names = [Path(study).stem for study in studies]
    out = out or results / "report" / "-".join(names)
    frames = [table(study, results) for study in studies]
    if len(studies) == 2:
        return page.compare(frames[0], frames[1], out, {})
    known: dict[str, Any] = {}
    if studies[0] != PUBLISHED:
        known = context(load_sweep(studies[0]), Store(Path(cluster.store)), cluster)
    log, samples = (results / f"{names[0]}{ending}" for ending in ("_log.csv", "_samples.npz"))
    return page.write(
        names[0],
        frames[0],
        tables.load_log(log) if log.exists() else None,
        samples if samples.exists() else None,
        out,
        known | ({"protocol": protocol} if protocol else {}),
    )


def summary(frame: pd.DataFrame, protocol: str | None = None) -> str:
    """The scores by model and step, and their correlation with Gflops."""
    from analysis import fits, tables

    rows = tables.grid(frame, "fid", protocol)
    rows = rows.assign(params=rows["params"].map(in_units), step=rows["step"].astype(int))
    scores = rows.pivot_table(
        index=["model", "params", "gflops"], columns="step", values="value", sort=False
    )
    text = scores.reset_index().to_string(
        index=False, na_rep="", float_format=lambda value: f"{value:.4g}"
    )
    head = f"{tables.axis_label(rows)} by optimizer step; Gflops are forward multiply-adds of one image / 1e9"
    return f"{head}\n{text}\n\n{fits.in_words(fits.correlation(frame, protocol=protocol))}"


def context(sweep: Sweep, store: Store, cluster: Cluster) -> dict[str, Any]:
    """What the page says beside the numbers: the question, the plan, what is missing, and where the recipe departs."""
    models = ", ".join(sorted({run.model for run in sweep.runs}))
    plan = plan_json(sweep, store, cluster)
    return {
        "question": f"How do {len(sweep.runs)} models ({models}) compare at steps {', '.join(map(str, sweep.steps))}?",
        "plan": plan_text(plan),
        "missing": [f"{task.id}: {task.reason}" for task in missing(sweep, store)],
        "deviations": deviations(sweep.runs, Run) + deviations(sweep.protocols, Protocol),
        "provenance": {"protocols": ", ".join(protocol.id for protocol in sweep.protocols)},
    }


def deviations(
    parts: Sequence[Run | Protocol], cls: type[Run | Protocol]
) -> list[tuple[str, str, str]]:
    """The fields in which a sweep departs from the paper's recipe, which is the defaults: (field, paper, here)."""
    found = []
    for field in dataclasses.fields(cls):
        values = sorted({str(getattr(part, field.name)) for part in parts})
        if field.default is not dataclasses.MISSING and values not in ([], [str(field.default)]):
            found.append((field.name, str(field.default), ", ".join(values)))
    return found


def predict(study: str, results: Path, model: str, protocol: str | None) -> list[dict[str, Any]]:
    """What each law says of `model` from the other models of the study, with interval and, where it is, the truth."""
    from analysis import fits

    frame = fits.predict(table(study, results), model, protocol=protocol)
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
