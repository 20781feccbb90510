"""What must hold before anything starts, all mistakes at once: data, memory, even shares. No torch."""

from __future__ import annotations

from collections.abc import Iterable

from harness.data.index import unfit
from harness.spec import Sweep, even_parts
from harness.study import memory
from harness.study.cluster import Cluster
from harness.study.tasks import Task, Train


def faults(sweep: Sweep, tasks: Iterable[Task], cluster: Cluster) -> list[str]:
    """What keeps these tasks of the sweep from being done on this cluster, each with its remedy."""
    trainings = [task for task in tasks if isinstance(task, Train)]
    return [
        *unfit([task.run for task in trainings], sweep.protocols, cluster.path),
        *memory.unfit(sweep, cluster),
        *uneven(trainings, cluster),
    ]


def uneven(trainings: Iterable[Train], cluster: Cluster) -> list[str]:
    """Batches that do not fall into equal parts: the largest would set the pace, and the others wait at every step."""
    found: dict[tuple[int, int], set[str]] = {}
    for task in trainings:
        ranks, batch = cluster.of(task.run.model, False).ranks, task.run.batch_size
        if batch % ranks:
            found.setdefault((ranks, batch), set()).add(task.run.model)
    return [
        f"nodes × gpus_per_node = {ranks} does not divide the batch of {batch} of {', '.join(sorted(models))}:"
        f" ask for {even_parts(batch, ranks)}"
        for (ranks, batch), models in found.items()
    ]
