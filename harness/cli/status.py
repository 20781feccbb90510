"""`harness status`: expected × found for every run, what is running, what failed. No torch."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.cli.plan import estimates, whole_costs
from harness.cli.run_status import Known, status_row
from harness.cli.status_text import status_text
from harness.cli.verb import Verb, add_json, add_sweep, cluster_from
from harness.launch.failures import failures
from harness.launch.follower import followers
from harness.launch.jobs import jobs_or_last_known
from harness.launch.ledger import cancelled, endings, given, read_ledger
from harness.launch.outcomes import bad_nodes, tries
from harness.launch.removed import removed
from harness.launch.submit import exhausted
from harness.launch.tickets import Line
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.outlook import outlook
from harness.study.plan import survey
from harness.study.speed import known_speed
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.varying import protocol_text, varying


def add_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    add_json(parser)
    parser.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="refreshes every SECONDS until all is done",
    )


def status(args: argparse.Namespace) -> int:
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    if args.watch is not None and not args.watch > 0:
        raise UserError(f"--watch {args.watch:g} must be above 0: seconds between refreshes")
    while True:
        found = status_json(sweep, Store(Path(cluster.store)), cluster)
        print(json.dumps(found, indent=1) if args.json else status_text(found), flush=True)
        if not args.watch or all(run["state"] == "done" for run in found["runs"]):
            return 0
        time.sleep(args.watch)


STATUS = Verb(
    "status",
    "Shows expected × found for every run, what is running, and what failed.",
    "digits --watch 5",
    add_options,
    status,
)


def status_json(sweep: Sweep, store: Store, cluster: Cluster) -> dict[str, Any]:
    """Expected × found for every run, what is running, how fast, and what failed last."""
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
    """A started run waits while anybody works on the sweep; else it has stopped."""
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
