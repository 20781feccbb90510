"""The heart: missing(sweep, store) compares the wish with the files and names every task and why. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from harness.base.files import is_whole
from harness.spec import Run, Sweep
from harness.study.store import Store
from harness.study.tasks import Evaluate, Task, Train


@dataclass(frozen=True)
class Cell:
    """What the store holds of one run, against what the sweep asks of it."""

    run: Run
    known: bool  # the run has a folder
    resume: int  # the newest step training can go on from
    checkpoints: tuple[int, ...]  # wanted steps whose weights are there and whole
    scores: int  # wanted scores that are there
    tasks: tuple[Task, ...]

    @property
    def state(self) -> str:
        if not self.tasks:
            return "done"
        return "going on" if self.resume or self.checkpoints or self.scores else "new"


def survey(sweep: Sweep, store: Store) -> list[Cell]:
    """One Cell a run, in the sweep's order.

    Raises:
        ValueError: another run lies under the id of one of these.
    """
    known = store.run_ids()
    return [
        examine(run, sweep, store) if run.id in known else untouched(run, sweep)
        for run in sweep.runs
    ]


def missing(sweep: Sweep, store: Store) -> list[Task]:
    """The tasks that would give the store what the sweep asks for, each with its reason."""
    return [task for cell in survey(sweep, store) for task in cell.tasks]


def orphans(sweep: Sweep, store: Store) -> list[str]:
    """Runs of the store that the sweep does not ask for: another sweep's, or left by an earlier version of this one."""
    return sorted(store.run_ids() - {run.id for run in sweep.runs})


def untouched(run: Run, sweep: Sweep) -> Cell:
    train = Train(run, sweep.steps, 0, "never trained")
    waiting = [
        Evaluate(run, s, p, False, "no checkpoint yet")
        for s in sweep.steps
        for p in sweep.protocols
    ]
    return Cell(run, False, 0, (), 0, (train, *waiting))


def examine(run: Run, sweep: Sweep, store: Store) -> Cell:
    """The Cell of a run that has a folder.

    Raises:
        UserError: another run lies under its id.
    """
    store.registered(run)
    steps = store.steps(run)
    there = [step for step in steps if step in sweep.steps]
    whole = {step for step in there if is_whole(store.ema(run, step))}
    damaged = {step for step in there if store.ema(run, step).exists()} - whole
    records = {protocol.id: store.recorded(run, protocol) for protocol in sweep.protocols}
    unscored = [(s, p) for s in sweep.steps for p in sweep.protocols if not records[p.id].get(s)]
    # Weights that were deleted after every score was taken are not missed; damaged ones are.
    needless = set(sweep.steps) - {s for s, _ in unscored} if sweep.protocols else set()
    absent = [s for s in sweep.steps if s not in whole and (s in damaged or s not in needless)]
    tasks: list[Task] = []
    if absent:
        resume = newest(run, store, absent[0])
        reason = train_reason(absent, damaged, resume, bool(steps))
        tasks.append(Train(run, tuple(absent), resume, reason))
    for step, protocol in unscored:
        reason = evaluate_reason(step in whole, step in records[protocol.id])
        tasks.append(Evaluate(run, step, protocol, step in whole, reason))
    scores = len(sweep.steps) * len(sweep.protocols) - len(unscored)
    return Cell(run, True, newest(run, store), tuple(sorted(whole)), scores, tuple(tasks))


def newest(run: Run, store: Store, limit: int | None = None) -> int:
    """The newest step, at most `limit`, that training can resume from; 0 is the beginning."""
    steps = (s for s in reversed(store.steps(run)) if limit is None or s <= limit)
    return next((step for step in steps if is_whole(store.state(run, step))), 0)


def train_reason(absent: list[int], damaged: set[int], resume: int, begun: bool) -> str:
    """Why these steps are trained, and from where."""
    torn = [step for step in absent if step in damaged]
    steps = ", ".join(map(str, absent))
    first = f"checkpoint {torn[0]} is truncated" if torn else f"no checkpoint at {steps}"
    if resume:
        return f"{first}; goes on from {resume}"
    return f"{first}; {'starts over' if begun else 'no checkpoint to go on from'}"


def evaluate_reason(ready: bool, recorded: bool) -> str:
    """Why a checkpoint is scored."""
    if recorded:
        return "its record is damaged"
    return "not scored" if ready else "no checkpoint yet"
