"""Following a sweep until nothing is missing: in this terminal, or as a small job of its own. No torch."""

from __future__ import annotations

import hashlib
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from harness.base.commit import PACKAGE
from harness.base.errors import UserError, user_errors
from harness.launch import slurm
from harness.launch.jobs import alone, look
from harness.launch.ledger import given, last_error
from harness.launch.slurm import Ticket
from harness.launch.submit import Job, Order, hand_in, submit
from harness.spec import Protocol, Run, Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Evaluate

# Shell: a follower whose Python was killed goes back into the queue. It does not where it ended in
# good order, was cancelled or is requeued already, nor after the third end in a row within ten
# minutes: then it is broken.
AGAIN = """again() {
  [ $? != 0 ] && [ "$(squeue --noheader --jobs=$SLURM_JOB_ID --format=%T)" = RUNNING ] || return
  deaths=FOLDER/deaths.$SLURM_JOB_ID
  [ $SECONDS -lt 600 ] || rm -f "$deaths"
  echo >> "$deaths"
  [ $(wc -l < "$deaths") -gt 3 ] || scontrol requeue $SLURM_JOB_ID
}
trap again EXIT"""


def follow(
    sweep: Sweep,
    store: Store,
    cluster: Cluster,
    code: Path,
    say: Callable[[str], None],
    retry: bool = False,
    asked: bool = True,
    stopped: Sequence[int] = (),
) -> list[str]:
    """Submits until nothing is missing, each checkpoint being scored as soon as it is there; the tasks left alone.

    Raises:
        ValueError, OSError: the first time a person asks; later, and unasked, it is said and tried
        again.
    """
    while not stopped:
        try:
            with user_errors():
                found = submit(
                    sweep.name, partial(missing, sweep, store), store, cluster, code, retry, asked
                )
                tasks = missing(sweep, store)
        except UserError as error:
            if asked:
                raise
            say(f"{error}: tried again in {cluster.poll_seconds:g} s")
        else:
            for task in found.submitted:
                say(f"submitted {task.id}: {task.reason}")
            retry = asked = False
            names = {task.id for task in tasks}
            waiting = {task.id for task in tasks if isinstance(task, Evaluate) and not task.ready}
            in_hand = names & (found.held | {task.id for task in found.submitted})
            if not in_hand and names <= found.left | waiting:
                return sorted(names)
        if cluster.executor != "debug":
            pause(cluster.poll_seconds, stopped)
    return []


def pause(seconds: float, stopped: Sequence[int]) -> None:
    until = time.monotonic() + seconds
    while not stopped and (left := until - time.monotonic()) > 0:
        time.sleep(min(1, left))


class Follower(Job):
    """A job that follows a sweep: what it does is in the ledger and the store, so that it may die at any time."""

    def __call__(self) -> None:
        """
        Raises:
            SystemExit: it was told to stop; where Slurm is to run it again, it is in the queue.
        """
        told, cluster = self.told()
        stopped: list[
            int
        ] = []  # a signal waits for the end of a round, so that no submission is cut in two
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, lambda number, _: stopped.append(number))
        left = follow(
            from_json(told["sweep"]),
            Store(Path(cluster.store)),
            cluster,
            PACKAGE.parent,
            say,
            asked=False,
            stopped=stopped,
        )
        if stopped:
            raise SystemExit("requeued" if cluster.executor == "slurm" and slurm.requeue() else 0)
        say(f"given up: {', '.join(left)}" if left else "nothing is missing")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def from_json(fields: dict[str, Any]) -> Sweep:
    runs, protocols = (
        [Run(**x) for x in fields["runs"]],
        [Protocol(**x) for x in fields["protocols"]],
    )
    return Sweep(**fields | {"runs": runs, "protocols": protocols})


def detach(sweep: Sweep, store: Store, cluster: Cluster, code: Path) -> tuple[str, bool]:
    """The job that follows this sweep, and whether it is new: asked twice, submitted once.

    Raises:
        ValueError: another launch does not let go of the ledger, or the scheduler refuses.
    """
    fields = asdict(sweep)
    name = f"{prefix(sweep)}{hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]}"
    with alone(store):
        if ticket := look(store, sweep.name if cluster.executor == "slurm" else None).jobs.get(
            name
        ):
            return ticket.job, False
        small = cluster.for_follower()
        folder = shlex.quote(str(store.submissions().resolve()))
        small = replace(small, setup=[*small.setup, AGAIN.replace("FOLDER", folder)])
        order = Order(name, {"sweep": fields}, small, 0)
        return hand_in([order], Follower, sweep.name, store, cluster, False, code)[0], True


def prefix(sweep: Sweep) -> str:
    """What the names of a sweep's followers begin with; what comes then tells its versions apart."""
    return f"follower:{sweep.name}:"


def followers(sweep: Sweep, store: Store, jobs: dict[str, Ticket]) -> list[dict[str, str]]:
    """The jobs that follow a sweep, or where there is none any more the last that did; and their last words."""
    lines = [line for task, line in given(store).items() if task.startswith(prefix(sweep))]
    there = [line for line in lines if line["task"] in jobs]
    return [tell(line, jobs.get(line["task"])) for line in there or lines[-1:]]


def tell(line: dict[str, Any], ticket: Ticket | None) -> dict[str, str]:
    said = ticket.reason if ticket and ticket.state == "PENDING" else last_error(line["log"])
    return {"job": line["job"], "state": ticket.state if ticket else "ended", "said": said}
