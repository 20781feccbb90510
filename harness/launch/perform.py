"""One task, from its lock to its result, in this process group."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.base.errors import Locked, UserError
from harness.base.files import read_json
from harness.base.locks import Claim, claim
from harness.base.validation import refuse
from harness.spec import Validation
from harness.study.checks import rows_problems
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Encode, Evaluate, Progress, Task, Train

if TYPE_CHECKING:
    from harness.base.distributed import Rank, Stop

Log = Callable[[list[dict[str, Any]]], object]


def perform(
    task: Task,
    store: Store,
    cluster: Cluster,
    progress: Progress,
    stop: Stop,
    patience: float = 0.1,
) -> None:
    """Does one task in this process group; does nothing where it is done already.

    `stop` is the caller's, so that a signal between two tasks, or at the end of one, ends both.

    Raises:
        UserError: the run was started with other files of rows.
        Locked: another process has it locked, and did not end within `patience` seconds.
        EnvironmentProblem: the cluster asks for GPUs, and torch sees none.
        Interrupted: a signal came; run the same task again to resume.
    """
    from harness.base.distributed import Interrupted, Stop, process_group

    with (
        process_group(cluster.device, cluster.gpus_per_node, cluster.hang_minutes) as rank,
        claim(task.claim(store), rank.is_main, patience) as mine,
    ):
        if rank.any(not mine):
            raise Locked(f"{task.id} is locked by another process")
        if stop.asked(rank):
            raise Interrupted(f"{task.id} was not started: run the same command to continue")
        if task.is_done(store):
            return
        if not isinstance(task, Encode):
            refuse(task.id, rows_problems([task.run], store))
        with locks_named(mine, rank):
            do(task, store, cluster, rank, Stop(stop.signals, mine.removed), progress)


@contextlib.contextmanager
def locks_named(lock: Claim, rank: Rank) -> Iterator[None]:
    """Names the lock in the error of a task that stopped as it was removed.

    Raises:
        UserError: the task stopped since somebody removed its lock, as a cleaner of a disk does.
    """
    from harness.base.distributed import Interrupted

    try:
        yield
    except Interrupted:
        if rank.any(lock.removed()):
            raise UserError(
                f"{lock.path} was removed while it was held, so that another process may run"
                " the same task: progress is saved; exempt *.lock from the cleaner, then run the"
                " same command to continue"
            ) from None
        raise


def do(
    task: Task, store: Store, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress
) -> None:
    """Does a task that this process group has locked."""
    match task:  # each room is imported when it is needed: torch and diffusers take seconds
        case Train():
            from harness.training.loop import train

            with logged(task, store, cluster, rank) as log:
                train(remaining(task, store), store, cluster, rank, stop, progress, log)
        case Evaluate():
            if isinstance(task.protocol, Validation):
                from harness.scoring.validate import validate

                validate(task, task.protocol, store, cluster, rank, stop, progress)
            else:
                from harness.scoring.evaluate import evaluate

                evaluate(task, store, cluster, rank, stop, progress)
            with logged(task, store, cluster, rank) as log:
                log([score_line(task, store)])
        case Encode():
            from harness.encoding.encode import encode

            encode(task, cluster, rank, stop, progress)


@contextlib.contextmanager
def logged(task: Train | Evaluate, store: Store, cluster: Cluster, rank: Rank) -> Iterator[Log]:
    """Yields what takes lines for the cluster's loggers: of scores under a name of their own.

    A training may still write to its own.
    """
    if not cluster.loggers or not rank.is_main:
        yield len
        return
    from harness.training.loggers import loggers

    name = f"{task.run.id}-scores" if isinstance(task, Evaluate) else task.run.id
    with loggers(cluster.loggers, name, task.run, store.run(task.run)) as log:
        yield log


def score_line(task: Evaluate, store: Store) -> dict[str, Any]:
    """The values of a score, in the form of a line of a training's log."""
    values = read_json(store.record(task.run, task.step, task.protocol))["values"]
    return {"step": task.step} | {f"{task.protocol.id}/{name}": v for name, v in values.items()}


def remaining(task: Train, store: Store) -> Train:
    """The steps that an earlier attempt did not reach: training continues from the newest state."""
    steps = (step for step in task.steps if not task.is_saved(store, step))
    return replace(task, steps=tuple(steps))


def set_threads(cluster: Cluster) -> None:
    import torch

    torch.set_num_threads(cluster.threads)
