"""What is submitted for a task: its resources and name, and which tasks share a job. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from harness.launch.outcomes import Tries
from harness.spec import Protocol
from harness.study.cluster import Cluster
from harness.study.cost import evaluation
from harness.study.speed import Speed
from harness.study.store import Store
from harness.study.tasks import Encode, Evaluate, Task, to_json

SMALL_HOURS = 0.25  # of evaluations that share a job
# The device that they are counted on: a job's copy of the code has no table of published speeds.
NOMINAL = Speed("a GPU", "nominal", tflops=100.0)


class Submission(NamedTuple):
    """A task to be submitted."""

    task: str
    label: str  # its name in the queue
    launch_spec: dict[str, Any]  # what launch.json holds of it
    resources: Cluster
    at: int  # where it begins


def order(task: Task, store: Store, cluster: Cluster, tried: Tries, retry: bool) -> Submission:
    """A task that failed is tried with more memory, and elsewhere, where that may help."""
    resources = task.resources(cluster)
    if resources.memory_gb and tried.memory_faults:
        more = resources.memory_gb * resources.memory_growth**tried.memory_faults
        resources = replace(resources, memory_gb=more)
    if tried.suspect and not retry:
        resources = replace(resources, exclude=[*resources.exclude, tried.suspect])
    return Submission(task.id, label(task), to_json(task), resources, task.position(store))


@dataclass
class Pack:
    """Submissions that share a job, and the hours that they take in all."""

    orders: list[Submission]
    hours: float


def pack(tasks: Sequence[Task], orders: Sequence[Submission]) -> list[list[Submission]]:
    """What each job performs: one task, or small evaluations of one checkpoint together.

    To start a job and load its network takes minutes on a cluster. Evaluations of the same samples
    share a job whatever they take: the first of them makes what the others need. Only jobs of one
    process share: after an error in one rank the others cannot continue with the next task.
    """
    packs: list[Pack] = []
    by_checkpoint: dict[str, Pack] = {}
    by_samples: dict[str, Pack] = {}
    for task, one in zip(tasks, orders, strict=True):
        if not isinstance(task, Evaluate) or one.resources.ranks > 1:
            packs.append(Pack([one], math.inf))
            continue
        hours = evaluation(task.run, task.protocol, NOMINAL, source=task.source).hours
        checkpoint = repr((task.run.id, task.step, one.resources))
        sampled = task.protocol.sampled if isinstance(task.protocol, Protocol) else task.id
        samples = f"{checkpoint} {sampled}"
        mates = by_samples.get(samples) or by_checkpoint.get(checkpoint)
        if mates is None or (samples not in by_samples and mates.hours + hours > SMALL_HOURS):
            packs.append(mates := Pack([], 0.0))
        mates.orders.append(one)
        mates.hours += hours
        by_checkpoint[checkpoint] = by_samples[samples] = mates
    return [mates.orders for mates in packs]


def label(task: Task) -> str:
    """What the queue shows: the model first, as squeue cuts after eight characters."""
    if isinstance(task, Encode):
        return task.name
    model = task.run.model.replace("/", "-")
    return f"{model}.score" if isinstance(task, Evaluate) else f"{model}.train"
