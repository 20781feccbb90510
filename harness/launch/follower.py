"""The follower as a job of its own: submitted once for each version of a sweep. No torch."""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.base.commit import PACKAGE
from harness.launch.executors import executor
from harness.launch.follow import follow
from harness.launch.job import Job
from harness.launch.jobs import launch_lock, query_jobs
from harness.launch.ledger import given
from harness.launch.logs import last_error
from harness.launch.orders import Submission
from harness.launch.submit import FOLLOWER, submit_jobs
from harness.launch.tickets import Line, Ticket
from harness.spec import Run, Sweep
from harness.spec.validation import read_protocol
from harness.study.cluster import Cluster
from harness.study.store import Store

# Shell: a follower whose Python was killed goes back into the queue. It does not where it ended in
# good order, was cancelled or is requeued already, nor after the third end in a row within ten
# minutes: then it is broken.
REQUEUE_TRAP = """again() {
  [ $? != 0 ] && [ "$(squeue --noheader --jobs=$SLURM_JOB_ID --format=%T)" = RUNNING ] || return
  deaths=FOLDER/deaths.$SLURM_JOB_ID
  [ $SECONDS -lt 600 ] || rm -f "$deaths"
  echo >> "$deaths"
  [ $(wc -l < "$deaths") -gt 3 ] || scontrol requeue $SLURM_JOB_ID
}
trap again EXIT"""


class Follower(Job):
    """A job that follows a sweep. All it knows is in the store, so that it may die at any time."""

    def __call__(self) -> None:
        """Follows the sweep until nothing is missing.

        Raises:
            SystemExit: it was signalled to stop; where its scheduler can, it is in the queue again.
        """
        (spec,), cluster = self.load()
        # A signal waits for the end of a round, so that no submission is cut in two.
        stopped: list[int] = []
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda number, _: stopped.append(number))
        left = follow(
            from_json(spec["sweep"]),
            Store(Path(cluster.store)),
            cluster,
            PACKAGE.parent,
            write_line,
            asked=False,
            stopped=stopped,
        )
        if stopped:
            raise SystemExit("requeued" if executor(cluster).requeue() else 0)
        write_line(f"given up: {', '.join(left)}" if left else "nothing is missing")


def write_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def to_json(sweep: Sweep) -> dict[str, Any]:
    """A sweep as JSON; `scored` and `trained` have steps of protocols and runs with their own."""
    own: dict[str, list[tuple[int, ...]]] = {}
    if isinstance(sweep.protocols, dict):
        own["scored"] = [*sweep.protocols.values()]
    if sweep.trained:
        own["trained"] = [sweep.steps_of(run) for run in sweep.runs]
    return {
        "name": sweep.name,
        "runs": [asdict(run) for run in sweep.runs],
        "steps": sweep.steps,
        "protocols": [asdict(protocol) for protocol in sweep.protocols],
        "keep": sweep.keep,
        **own,
    }


def from_json(fields: dict[str, Any]) -> Sweep:
    """The sweep that to_json() wrote."""
    given = dict(fields)
    runs = [Run(**run) for run in given.pop("runs")]
    protocols = [read_protocol(protocol) for protocol in given.pop("protocols")]
    scored, trained = given.pop("scored", None), given.pop("trained", None)
    pairs = dict(zip(protocols, scored, strict=True)) if scored else tuple(protocols)
    own = dict(zip(runs, trained, strict=True)) if trained else {}
    return Sweep(runs=tuple(runs), protocols=pairs, trained=own, **given)


def detach(sweep: Sweep, store: Store, cluster: Cluster, code: Path) -> tuple[str, bool]:
    """The job that follows this sweep, and whether it is new: asked twice, submitted once.

    Raises:
        UserError: another launch holds the lock, or the scheduler refuses.
    """
    fields = to_json(sweep)
    name = f"{prefix(sweep)}{hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]}"
    with launch_lock(store):
        if ticket := query_jobs(store, cluster.executor).by_task.get(name):
            return ticket.job, False
        small = cluster.for_follower()
        folder = shlex.quote(str(store.submissions().resolve()))
        small = replace(small, setup=[*small.setup, REQUEUE_TRAP.replace("FOLDER", folder)])
        order = Submission(name, "follow", {"sweep": fields}, small, 0)
        jobs = submit_jobs([[order]], Follower, sweep.name, store, cluster, False, code)
        return jobs[name], True


def prefix(sweep: Sweep) -> str:
    """What the names of a sweep's followers begin with; the rest distinguishes its versions."""
    return f"{FOLLOWER}{sweep.name}:"


def followers(sweep: Sweep, store: Store, jobs: dict[str, Ticket]) -> list[dict[str, str]]:
    """The jobs that follow a sweep, or the last that did, with their last words."""
    lines = [line for task, line in given(store).items() if task.startswith(prefix(sweep))]
    alive = [line for line in lines if line["task"] in jobs]
    return [describe(line, jobs.get(line["task"])) for line in alive or lines[-1:]]


def describe(line: Line, ticket: Ticket | None) -> dict[str, str]:
    pending = ticket and ticket.state == "PENDING"
    words = ticket.reason if ticket and pending else last_error(line)
    return {"job": line["job"], "state": ticket.state if ticket else "ended", "message": words}
