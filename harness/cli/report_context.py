"""What only the store knows of a report: hours used, what is missing. No torch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.base.text import duration
from harness.cli.plan import estimates
from harness.spec import Protocol, Run, Sweep
from harness.study import cost
from harness.study.cluster import Cluster
from harness.study.plan import Cell, survey
from harness.study.speed import Speed, known_speed
from harness.study.store import Store
from harness.study.tasks import Evaluate, Task, Train

if TYPE_CHECKING:
    import pandas as pd

    from analysis.sections import Context

Score = tuple[str, int, str]  # run, step, protocol


def sweep_context(sweep: Sweep, store: Store, cluster: Cluster, table: pd.DataFrame) -> Context:
    """Returns the cost and the state of a sweep: a score that is in the table is not missing."""
    from analysis.sections import Context

    scored, speed = scores_of(table), known_speed(store, cluster)
    rows = [row_of(cell, sweep, store, scored, speed) for cell in survey(sweep, store)]
    timed = estimates(sweep, speed)
    return Context(
        status=status_line(rows),
        cost=cost_table(rows, timed),
        cost_caption=cost_caption(rows, store),
        missing=[*missing_lines(rows)],
        deviations=deviations(sweep.runs, Run) + deviations(sweep.sampling, Protocol),
        provenance={"protocols": ", ".join(protocol.id for protocol in sweep.protocols)},
    )


def scores_of(table: pd.DataFrame) -> set[Score]:
    rows = table[["run", "step", "protocol"]].drop_duplicates()
    return {(run, int(step), protocol) for run, step, protocol in rows.itertuples(index=False)}


@dataclasses.dataclass(frozen=True)
class Row:
    """What a run has, what it took, and what it still lacks."""

    model: str
    known: bool  # the store has the run
    scored: int
    wanted: int
    train_hours: float
    score_hours: float
    hours_to_go: float
    reasons: tuple[str, ...]


def row_of(cell: Cell, sweep: Sweep, store: Store, scored: set[Score], speed: Speed) -> Row:
    run = cell.run
    wanted = {(run.id, s, p.id) for s, p in sweep.scores_of(run)}
    lacking = wanted - scored
    tasks = tuple(task for task in cell.tasks if is_lacking(task, lacking, sweep))
    reasons = dict.fromkeys(task.reason for task in tasks)
    if len(lacking) > sum(isinstance(task, Evaluate) for task in tasks):
        reasons["scored and not in the table: harness collect"] = None
    to_go = dataclasses.replace(cell, tasks=tasks)
    attempts = store.read_attempts(run)[0] if cell.known else []
    records = (
        r for p in sweep.protocols for r in (store.read_records(run, p) if cell.known else ())
    )
    return Row(
        run.model,
        cell.known,
        len(wanted) - len(lacking),
        len(wanted),
        cost.used_hours(attempts, []),
        cost.used_hours([], records),
        cost.cost(to_go, sweep, speed).hours if tasks else 0.0,
        tuple(reasons),
    )


def is_lacking(task: Task, lacking: set[Score], sweep: Sweep) -> bool:
    """Whether a task of the store leads to a score that the table lacks, or to mere weights."""
    if isinstance(task, Evaluate):
        return (task.run.id, task.step, task.protocol.id) in lacking
    steps = task.steps if isinstance(task, Train) else ()
    return not sweep.protocols or any(step in steps for _, step, _ in lacking)


def status_line(rows: Sequence[Row]) -> str:
    wanted = sum(row.wanted for row in rows)
    lacking = wanted - sum(row.scored for row in rows)
    if not lacking:
        return f"Complete: {len(rows)} runs, {wanted} scores."
    return f"Incomplete: {lacking} of {wanted} scores of {len(rows)} runs are missing."


def by_model(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.model, []).append(row)
    yield from found.items()


def cost_table(rows: Sequence[Row], timed: bool) -> pd.DataFrame | None:
    """The hours used and, where they can be estimated, to go; None where the store has no run."""
    import pandas as pd

    if not any(row.known for row in rows):
        return None
    lines = [(model, part) for model, part in by_model(rows)]
    lines += [("all", list(rows))] if len(lines) > 1 else []
    frame = pd.DataFrame(
        {
            "Model": model,
            "Runs": len(part),
            "Scores": f"{sum(r.scored for r in part)} of {sum(r.wanted for r in part)}",
            "Training": duration(sum(r.train_hours for r in part)),
            "Scoring": duration(sum(r.score_hours for r in part)),
            "To go": duration(sum(r.hours_to_go for r in part))
            if any(r.reasons for r in part)
            else "",
        }
        for model, part in lines
    )
    return frame.drop(columns=[name for name in ["To go"] if frame[name].eq("").all()])


def cost_caption(rows: Sequence[Row], store: Store) -> str:
    """States what the hours are, and of how many runs the store knows them."""
    known = sum(row.known for row in rows)
    text = "Device time used: of training, every attempt; of each score, the one that counts."
    return text if known == len(rows) else f"{text} {store.root} has {known} of {len(rows)} runs."


def missing_lines(rows: Sequence[Row]) -> Iterator[str]:
    """One line a model that lacks scores, with the reasons."""
    for model, part in by_model(rows):
        lacking = [row for row in part if row.reasons]
        if lacking:
            scores = sum(row.wanted - row.scored for row in lacking)
            wanted = sum(row.wanted for row in part)
            reasons = Counter(reason for row in lacking for reason in row.reasons)
            texts = [reason if n == 1 else f"{reason} ({n} runs)" for reason, n in reasons.items()]
            yield f"{model}: {scores} of {wanted} scores: {'; '.join(texts)}"


def deviations(
    parts: Collection[Run | Protocol], cls: type[Run | Protocol]
) -> list[tuple[str, str, str]]:
    """Returns (field, default, value) where a sweep departs from the defaults, the paper's."""
    found = []
    for field in dataclasses.fields(cls):
        values = sorted({str(getattr(part, field.name)) for part in parts})
        if field.default is not dataclasses.MISSING and values not in ([], [str(field.default)]):
            found.append((field.name, str(field.default), ", ".join(values)))
    return found
