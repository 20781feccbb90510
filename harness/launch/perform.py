"""One task, from its lock to its result, in this process group."""

from __future__ import annotations

from dataclasses import replace

from harness.base.errors import Locked
from harness.base.files import claim
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Encode, Evaluate, Progress, Task, Train


def perform(
    task: Task, store: Store, cluster: Cluster, progress: Progress, patience: float = 0.1
) -> None:
    """Does one task in this process group; does nothing where it is done already.

    Raises:
        Locked: another process has it locked, and did not end within `patience` seconds.
        EnvironmentProblem: the cluster asks for GPUs, and torch sees none.
        Interrupted: a signal came; run the same task again to go on.
    """
    from harness.base.distributed import process_group, stop_on_signal

    with (
        stop_on_signal() as stop,
        process_group(cluster.device, cluster.gpus_per_node, cluster.hang_minutes) as rank,
        claim(task.claim(store), rank.is_main, patience) as mine,
    ):
        if rank.any(not mine):
            raise Locked(f"{task.id} is locked by another process")
        if task.is_done(store):
            return
        match task:  # each room is imported when it is needed: torch and diffusers take seconds
            case Train():
                from harness.training.loop import train

                train(remaining(task, store), store, cluster, rank, stop, progress)
            case Evaluate():
                from harness.scoring.evaluate import evaluate

                evaluate(task, store, cluster, rank, stop, progress)
            case Encode():
                from harness.encoding.encode import encode

                encode(task, cluster, rank, stop, progress)


def remaining(task: Train, store: Store) -> Train:
    """The steps that an earlier attempt did not reach: training goes on from the newest state."""
    steps = (step for step in task.steps if not task.is_saved(store, step))
    return replace(task, steps=tuple(steps))


def set_threads(cluster: Cluster) -> None:
    import torch

    torch.set_num_threads(cluster.threads)
