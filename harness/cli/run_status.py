"""The status of one run: its state, its progress, its jobs and its last error. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.base.locks import is_claimed
from harness.launch.logs import last_error, log_files, silence
from harness.launch.outcomes import Tries
from harness.launch.tickets import Line, Ticket
from harness.spec import Sweep
from harness.study import cost
from harness.study.logs import merged
from harness.study.plan import Cell
from harness.study.store import Store
from harness.study.tasks import Evaluate, Task

LOSS_STEPS = 100  # whose mean is shown: the loss of one step is mostly noise


class Known(NamedTuple):
    """What ledger, queue and locks say, read once for all runs."""

    jobs: dict[str, Ticket]  # pending and running, by task
    last: dict[str, Line]  # the latest job of each task; {} while the scheduler does not answer
    tried: dict[str, Tries]
    endings: dict[tuple[str, str], Line]  # by launch and task
    errors: dict[str, str]  # of `harness run`
    cancelled: Mapping[str, str]  # and why, where a follower did
    exhausted: set[str]


def status_row(cell: Cell, sweep: Sweep, store: Store, known: Known) -> dict[str, Any]:
    run, last = cell.run, sweep.steps_of(cell.run)[-1]
    attempts = store.read_attempts(run)[0] if cell.known else []
    lines, records = merged(attempts), scored_records(cell, sweep, store)
    step, speed = max(cell.checkpoints, default=0), None  # imported ones have no log
    if lines:
        step, speed = lines[-1]["step"], lines[-1]["images_per_second"]
    losses = [line["loss"] for line in lines[-LOSS_STEPS:]]
    held = {task.id: known.jobs[task.id] for task in cell.tasks if task.id in known.jobs}
    state, failed = state_of(cell, store, known, held)
    eta = (last - step) * run.batch_size / speed if state == "training" and speed else None
    return {
        "run": run.id,
        "model": run.model,
        "fields": run.canonical(),
        "state": state,
        "step": step,
        "loss": sum(losses) / len(losses) if losses else None,
        "last_step": last,
        "checkpoints": len(cell.checkpoints),
        "checkpoints_wanted": len(sweep.steps_of(run)),
        "scores": cell.scores,
        "scores_wanted": len(sweep.scores_of(run)),
        "images_per_second": speed,
        "eta_seconds": eta,
        "silent_seconds": silent(held, known.last),
        "attempts": len(attempts),
        "tries": max(
            (known.tried[t.id].jobs for t in cell.tasks if t.id in known.tried), default=0
        ),
        "used_hours": cost.used_hours(attempts, records),
        "user": user_of(cell, sweep, known.last),
        "jobs": {task: vars(ticket) for task, ticket in held.items()},
        "given_up": sorted({task.id for task in cell.tasks} & known.exhausted),
        **error_of(cell, store, known, failed),
    }


def state_of(
    cell: Cell, store: Store, known: Known, held: Mapping[str, Ticket]
) -> tuple[str, list[str]]:
    """The state of a run in a word, and the tasks that failed."""
    left = [task.id for task in cell.tasks]
    states = {ticket.state for ticket in held.values()}
    ticket = held.get(cell.run.id)
    training = is_claimed(store.train_claim(cell.run)) or (ticket and ticket.state == "RUNNING")
    scored = [task for task in cell.tasks if isinstance(task, Evaluate) and task.ready]
    scoring = {task.id for task in scored if is_claimed(task.claim(store))}
    failed = [
        task
        for task in left
        if (task in known.last or task in known.errors)
        and task not in known.cancelled
        and task not in held
        and task not in scoring
        and not training
    ]
    if ticket and ticket.state == "SUSPENDED":
        return "suspended", failed
    if training:
        return "training", failed
    if scoring or "RUNNING" in states:
        return "scoring", failed
    if held:
        return ("suspended" if "SUSPENDED" in states else "queued"), failed
    if failed:
        return "failed", failed
    return ("cancelled" if known.cancelled.keys() & set(left) else cell.state), failed


def silent(held: Mapping[str, Ticket], last: Mapping[str, Line]) -> float | None:
    """The longest time that a running job has written nothing to its log."""
    running = [task for task, ticket in held.items() if ticket.state == "RUNNING" and task in last]
    ages = [age for task in running if (age := silence(log_files(last[task]))) is not None]
    return max(ages, default=None)


def user_of(cell: Cell, sweep: Sweep, last: Mapping[str, Line]) -> str:
    """Who submitted the run's latest training, else one of its evaluations."""
    scores = (f"{cell.run.id}@{step}:{p.id}" for step, p in sweep.scores_of(cell.run))
    lines = [last[task] for task in (cell.run.id, *scores) if task in last]
    return str(lines[0].get("user", "unknown")) if lines else "unknown"


def error_of(cell: Cell, store: Store, known: Known, failed: Sequence[str]) -> dict[str, str]:
    """The last error among the run's tasks, and whose it is; kept until that task gets on."""
    for task in sorted(cell.tasks, key=lambda task: task.id not in failed):
        if error := task_error(task, store, known, failed):
            return {"error": error, "error_task": task.id}
    for task in cell.tasks:
        if why := known.cancelled.get(task.id):
            return {"error": f"stopped: {why}", "error_task": task.id}
    return {"error": "", "error_task": ""}


def task_error(task: Task, store: Store, known: Known, failed: Collection[str]) -> str:
    line, tried = known.last.get(task.id), known.tried.get(task.id, Tries())
    if task.id in failed:
        if line and (line["launch"], task.id) not in known.endings:
            return last_error(line)
        return tried.error if line else known.errors[task.id]
    return tried.error if task.id in known.jobs and task.position(store) <= tried.at else ""


def scored_records(cell: Cell, sweep: Sweep, store: Store) -> Iterator[dict[str, Any]]:
    """The records of a run's scores; one that cannot be read is for collect to name."""
    for protocol in sweep.protocols if cell.scores else ():
        yield from store.read_records(cell.run, protocol)
