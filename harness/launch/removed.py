"""Jobs of tasks that a sweep no longer asks for, such as a removed model's. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from harness.launch.follower import prefix
from harness.launch.ledger import given
from harness.launch.tickets import Ticket
from harness.spec import Sweep
from harness.study.store import Store


def removed(sweep: Sweep, store: Store, jobs: Mapping[str, Ticket]) -> list[dict[str, str]]:
    """The pending and running jobs of this sweep that belong to no task of it now."""
    asked = {run.id for run in sweep.runs} | {
        f"{run.id}@{step}:{protocol.id}"
        for run in sweep.runs
        for step, protocol in sweep.scores_of(run)
    }
    last = given(store)
    return [
        {"task": task, "job": ticket.job, "state": ticket.state}
        for task, ticket in jobs.items()
        if last[task]["name"] == sweep.name
        and task not in asked
        and not task.startswith(prefix(sweep))
    ]
