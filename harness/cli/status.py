"""`harness status`: expected × found for every run, who is at work, and what failed. No torch."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.base.errors import UserError
from harness.base.locks import is_claimed
from harness.cli.plan import estimates, whole_costs
from harness.cli.status_text import status_text
from harness.cli.verb import Verb, add_json, add_sweep, cluster_from
from harness.launch.failures import failures
from harness.launch.follower import followers
from harness.launch.jobs import jobs_or_last_known
from harness.launch.ledger import cancelled, endings, given, read_ledger
from harness.launch.logs import last_error, log_files, silence
from harness.launch.outcomes import Tries, bad_nodes, tries
from harness.launch.removed import removed
from harness.launch.submit import exhausted
from harness.launch.tickets import Line, Ticket
from harness.spec import Sweep
from harness.study import cost
from harness.study.cluster import Cluster
from harness.study.logs import merged
from harness.study.outlook import outlook
from harness.study.plan import Cell, survey
from harness.study.speed import known_speed
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.tasks import Evaluate, Task
from harness.study.varying import protocol_text, varying

LOSS_STEPS = 100  # whose mean is shown: the loss of one step is mostly noise


def add_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    add_json(parser)
    parser.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="again every so many seconds, until all is done",
    )


def status(args: argparse.Namespace) -> int:
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    if args.watch is not None and not args.watch > 0:
        raise UserError(f"--watch {args.watch:g} must be above 0: the seconds between two looks")
    while True:
        found = status_json(sweep, Store(Path(cluster.store)), cluster)
        print(json.dumps(found, indent=1) if args.json else status_text(found), flush=True)
        if not args.watch or all(run["state"] == "done" for run in found["runs"]):
            return 0
        time.sleep(args.watch)


STATUS = Verb(
    "status",
    "Expected × found, who is at work, and what failed.",
    "digits --watch 5",
    add_options,
    status,
)


class Known(NamedTuple):
    """What ledger, queue and locks say, read once for all runs."""

    jobs: dict[str, Ticket]  # pending and running, by task
    last: dict[str, Line]  # the latest job of each task; {} while the scheduler does not answer
    tried: dict[str, Tries]
    endings: dict[tuple[str, str], Line]  # by launch and task
    errors: dict[str, str]  # of `harness run`
    cancelled: Mapping[str, str]  # and why, where a follower did
    exhausted: set[str]


def status_json(sweep: Sweep, store: Store, cluster: Cluster) -> dict[str, Any]:
    """Expected × found for every run, who is at work, how fast, and what failed last."""
    # The ledger before the queue, and the queue before the files: so that what has just ended is
    # no failure.
    lines, warnings = read_ledger(store)
    last = given(store)
    jobs, away = jobs_or_last_known(store)
    cells, tried = survey(sweep, store), tries(store)
    idle = [task for cell in cells for task in cell.tasks if task.id not in jobs]
    known = Known(
        jobs,
        {} if away else latest(last, store),
        tried,
        endings(store),
        {task: line["error"] for task, line in failures(store).items()},
        cancelled(store),
        exhausted(idle, tried, store, cluster),
    )
    speed = known_speed(store, cluster)
    planned = whole_costs(sweep, speed)
    rows = [
        status_row(cell, sweep, store, known) | {"planned_hours": planned[cell.run.id].hours}
        for cell in cells
    ]
    seen = outlook(sweep, cells, store)
    for row in rows:
        row["outlook"] = seen[row["run"]]._asdict() if row["run"] in seen else None
    follow = [] if away else followers(sweep, store, jobs)
    name_idle(rows, any(follower["state"] == "RUNNING" for follower in follow))
    return {
        "sweep": sweep.name,
        "store": str(store.root.resolve()),
        "store_exists": store.root.exists(),
        "varies": varying(sweep.runs),
        "protocol_text": protocol_text(sweep.protocols),
        "scheduler": away,
        "warnings": warnings,
        "runs": rows,
        "removed": removed(sweep, store, jobs),
        "bad_nodes": sorted(bad_nodes(lines)),
        "followers": follow,
        "totals": {key: sum(row[key] for row in rows) for key in ("used_hours", "planned_hours")},
        "used_hours_by_state": used_by(rows, "state"),
        "used_hours_by_user": used_by(rows, "user"),
        "planned_on": speed.device + ("" if speed.rows else ", published"),
        "estimates": estimates(sweep, speed),
    }


def name_idle(rows: Sequence[dict[str, Any]], followed: bool) -> None:
    """A run that is begun waits while anybody works on the sweep; else it has stopped."""
    working = followed or any(row["state"] in ("training", "scoring") for row in rows)
    for row in rows:
        if row["state"] == "going on":
            row["state"] = "waiting" if working else "stopped"


def latest(last: Mapping[str, Line], store: Store) -> dict[str, Line]:
    """Without the jobs of the store that this one is a copy of: here they were never tried."""
    here = str(store.submissions().resolve())
    return {
        task: line
        for task, line in last.items()
        if line["log"].startswith(here) or Path(line["log"]).exists()
    }


def used_by(rows: Iterable[Mapping[str, Any]], key: str) -> dict[str, float]:
    hours: Counter[str] = Counter()
    for row in rows:
        hours[row[key]] += row["used_hours"]
    return dict(hours)


def status_row(cell: Cell, sweep: Sweep, store: Store, known: Known) -> dict[str, Any]:
    run, last = cell.run, sweep.steps_of(cell.run)[-1]
    attempts = store.read_attempts(run)[0] if cell.known else []
    lines, records = merged(attempts), scored_records(cell, sweep, store)
    step, speed = (lines[-1]["step"], lines[-1]["images_per_second"]) if lines else (0, None)
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
