"""Ends runs that will not reach the frontier, if the cluster file asks for it. No torch."""

from __future__ import annotations

from collections.abc import Callable

from harness.launch.jobs import launch_lock, query_jobs, withdraw
from harness.launch.ledger import ledger, set_cancelled
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.outlook import Outlook, outlook
from harness.study.plan import survey
from harness.study.store import Store
from harness.study.tasks import Train


def end_dominated(
    sweep: Sweep, store: Store, cluster: Cluster, write_line: Callable[[str], None]
) -> None:
    """Withdraws the trainings of dominated runs, as `cancel` does, once each.

    A run that a person asks for again goes on to its end. Its checkpoints are scored all the same.
    """
    if not cluster.stop_dominated:
        return
    cells = survey(sweep, store)
    trained = {task.id for cell in cells for task in cell.tasks if isinstance(task, Train)}
    once = {line["task"] for line in ledger(store) if line.get("why")}
    seen = outlook(sweep, cells, store)
    for run in sorted(trained & seen.keys() - once):
        if seen[run].dominated_by:
            withdraw_training(run, reason(seen[run]), store)
            write_line(f"stopped {run}: {reason(seen[run])}")


def reason(seen: Outlook) -> str:
    return (
        f"{seen.metric} at step {seen.last:,} will be {seen.low:.3g} or more, and"
        f" {seen.dominated_by} is below with no more compute"
    )


def withdraw_training(task: str, why: str, store: Store) -> None:
    """Ends the job, which saves first, and writes down why."""
    with launch_lock(store):
        ticket = query_jobs(store).by_task.get(task)
        withdraw([ticket] if ticket else [])
        set_cancelled([task], store, True, why)
