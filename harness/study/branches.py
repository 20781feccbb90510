"""Branches: a run that starts like a shorter one continues from its state. No torch."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness.base.errors import UserError
from harness.base.files import is_whole
from harness.spec import Run
from harness.spec.schedule import read_schedule
from harness.study.registry import changed_rows, read_run
from harness.study.store import Store
from harness.study.tasks import Train


def fork(run: Run) -> int | None:
    """The last step before the decay of a run's learning rate; None of a run without one."""
    schedule = read_schedule(run.schedule)
    return schedule.decay[0] if schedule and schedule.decay else None


@functools.lru_cache(4096)
def beginning(run: Run) -> tuple[Any, ...]:
    """What runs have in common that are alike until the first of their forks."""
    schedule = read_schedule(run.schedule)
    warmup = schedule.warmup if schedule else 0
    fields = {name: value for name, value in run.canonical().items() if name != "schedule"}
    return warmup, *sorted(fields.items())


def is_trunk(shorter: Run, run: Run) -> bool:
    """Whether `run` goes on where `shorter` decays: all but the decay is the same."""
    first, last = fork(shorter), fork(run)
    if first is None or last is None or first > last or shorter == run:
        return False
    return beginning(shorter) == beginning(run)


@functools.lru_cache(4096)
def cached_run(name: str, store: Store) -> Run:
    """A run of a store, whose fields are written once."""
    return read_run(name, store)


def trunks(run: Run, store: Store, limit: int) -> Iterator[tuple[int, Run]]:
    """Forks, at most `limit`, of runs of the store that have a whole state there; the last first.

    A run that was begun with other rows than today's, or that cannot be read, is no trunk.
    """
    if fork(run) is None:
        return
    found: list[tuple[int, Run]] = []
    family = run.id.removesuffix(run.digest())
    for name in sorted(name for name in store.run_ids() if name.startswith(family)):
        with contextlib.suppress(UserError, OSError):
            other = cached_run(name, store)
            step = fork(other) or 0
            if is_trunk(other, run) and step <= limit and is_whole(store.state(other, step)):
                found += [(step, other)] * (not changed_rows(other, store))
    yield from sorted(found, key=lambda pair: (-pair[0], pair[1].id))


def branched(task: Train, store: Store, others: Sequence[Train]) -> Train:
    """The task as it begins at a trunk: one that is there, or waiting for one of `others`.

    Those are the trainings that the sweep lacks too; one that is past its fork is not waited for.
    """
    run, first = task.run, task.steps[0]
    step, trunk = next(trunks(run, store, first), (0, run))
    coming = [
        (at, other.run)
        for other in others
        if is_trunk(other.run, run) and other.start < (at := fork(other.run) or 0) <= first
    ]
    last, awaited = max(coming, key=lambda pair: pair[0], default=(0, run))
    if last > max(task.start, step):
        reason = f"waits for step {last} of {awaited.id}: both are the same until there"
        return replace(task, start=last, reason=reason, ready=False)
    if step > task.start:
        reason = f"{task.reason.partition(';')[0]}; branches off {trunk.id} at {step}"
        return replace(task, start=step, reason=reason)
    return task
