"""Waiting jobs that ask for other resources than the cluster file does now. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.launch.tickets import Ticket
from harness.study.cluster import RESOURCES, Cluster
from harness.study.store import Store
from harness.study.tasks import Task


def outdated(
    tasks: Collection[Task], store: Store, cluster: Cluster, jobs: Mapping[str, Ticket]
) -> dict[str, list[str]]:
    """What changed in the cluster file since the pending jobs of these tasks were submitted.

    Returns lines such as "memory_gb = 32, 64 in the cluster file" by task.
    """
    changes = {}
    launched: dict[str, Cluster | None] = {}
    for task in tasks:
        if (ticket := jobs.get(task.id)) and ticket.state == "PENDING":
            if ticket.launch not in launched:
                launched[ticket.launch] = cluster_of(ticket.launch, store)
            if then := launched[ticket.launch]:
                changes[task.id] = differences(task.resources(then), task.resources(cluster))
    return {task: lines for task, lines in changes.items() if lines}


def cluster_of(launch: str, store: Store) -> Cluster | None:
    """The cluster of a launch; None where its folder was removed or another version wrote it."""
    try:
        return Cluster(**read_json(store.submissions() / launch / "launch.json")["cluster"])
    except (UserError, OSError, TypeError):
        return None


def differences(then: Cluster, now: Cluster) -> list[str]:
    return [
        f"{key} = {getattr(then, key)}, {getattr(now, key)} in the cluster file"
        for key in RESOURCES
        if getattr(then, key) != getattr(now, key)
    ]
