"""missing(sweep, store): the tasks a sweep lacks in a store, each with its reason. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from harness.base.files import is_whole, rows_in
from harness.extractors import EXTRACTORS
from harness.spec import AnyProtocol, Run, Sweep, Validation
from harness.study.branches import beginning, branched, fork
from harness.study.registry import is_registered
from harness.study.store import Store, shard_path, shard_spans
from harness.study.tasks import NETWORK, Evaluate, Task, Train


@dataclass(frozen=True)
class Cell:
    """What the store holds of one run, against what the sweep asks of it."""

    run: Run
    known: bool  # the run has a folder
    resume: int  # the newest step training can continue from
    checkpoints: tuple[int, ...]  # wanted steps whose weights are there and whole
    scores: int  # wanted scores that are there
    tasks: tuple[Task, ...]
    weights: tuple[str, ...]  # kinds that a wanted step keeps

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
    cells = [
        examine(run, sweep, store) if run.id in known else untouched(run, sweep)
        for run in sweep.runs
    ]
    alike: dict[object, list[Train]] = {}
    for task in (task for cell in cells for task in cell.tasks if isinstance(task, Train)):
        if fork(task.run) is not None:
            alike.setdefault(beginning(task.run), []).append(task)
    return [with_branch(cell, store, alike) for cell in cells]


def with_branch(cell: Cell, store: Store, alike: Mapping[object, list[Train]]) -> Cell:
    """The cell, with its training as it begins at the state of a run that is alike until there."""
    if fork(cell.run) is None:
        return cell
    others = alike.get(beginning(cell.run), [])
    tasks = (branched(t, store, others) if isinstance(t, Train) else t for t in cell.tasks)
    return replace(cell, tasks=tuple(tasks))


def missing(sweep: Sweep, store: Store) -> list[Task]:
    """The tasks that would give the store what the sweep asks for, each with its reason."""
    return [task for cell in survey(sweep, store) for task in cell.tasks]


def orphans(sweep: Sweep, store: Store) -> list[str]:
    """Runs of the store that the sweep does not ask for, such as another sweep's."""
    return sorted(store.run_ids() - {run.id for run in sweep.runs})


def weights_scored(run: Run, sweep: Sweep) -> tuple[str, ...]:
    """Which weights a checkpoint has: the averages, and the raw ones if a protocol asks."""
    raw = any(protocol.weights == "raw" for protocol in sweep.protocols)
    return (*run.averages, "raw") if raw else (*run.averages,)


def untouched(run: Run, sweep: Sweep) -> Cell:
    steps, scores = sweep.steps_of(run), sweep.scores_of(run)
    train = Train(run, steps, 0, "never trained", weights_scored(run, sweep))
    waiting = [Evaluate(run, s, p, False, "no checkpoint yet", sweep.keep) for s, p in scores]
    return Cell(run, False, 0, (), 0, (train, *waiting), train.weights)


def examine(run: Run, sweep: Sweep, store: Store) -> Cell:
    """The Cell of a run that has a folder.

    Raises:
        UserError: another run lies under its id.
    """
    is_registered(run, store)  # refuses the folder of another run
    steps, asked, kinds = store.steps(run), sweep.steps_of(run), weights_scored(run, sweep)
    wanted = [step for step in steps if step in asked]
    whole = {kind: {s for s in wanted if is_whole(store.weights(run, s, kind))} for kind in kinds}
    damaged = {s for s in wanted if store.ema(run, s).exists()} - whole["ema"]
    scores = unscored(run, sweep, store)
    needed = weights_needed(run, sweep, scores, damaged)
    absent = [step for step in asked if any(step not in whole[kind] for kind in needed[step])]
    tasks: list[Task] = []
    if absent:
        resume = newest(run, store, absent[0])
        reason = train_reason(absent, damaged, whole["ema"], resume, bool(steps))
        if imported := store.imported_steps(run):
            reason = imported_reason(reason, imported)
        tasks.append(Train(run, tuple(absent), resume, reason, kinds))
    for score in scores:
        ready = all(score.step in whole[kind] for kind in weights_read(run, score))
        reason = evaluate_reason(ready, score)
        tasks.append(
            Evaluate(run, score.step, score.protocol, ready, reason, sweep.keep, score.source)
        )
    there, scored = tuple(sorted(whole["ema"])), len(sweep.scores_of(run)) - len(scores)
    return Cell(run, True, newest(run, store), there, scored, tuple(tasks), kinds)


class Unscored(NamedTuple):
    """A score that a run lacks."""

    step: int
    protocol: AnyProtocol
    recorded: bool  # its record is there: damaged, or without some values
    lacking: list[str]  # the values that a whole record does not hold
    source: str  # what it is computed from: "features" or "latents" that were kept, or NETWORK


def unscored(run: Run, sweep: Sweep, store: Store) -> list[Unscored]:
    """The scores of a run that have no whole record, or one without all values."""
    records = {protocol.id: store.recorded(run, protocol) for protocol in sweep.protocols}
    found = []
    for step, protocol in sweep.scores_of(run):
        whole = records[protocol.id].get(step)  # None without a record
        lacking = store.lacking(run, step, protocol) if whole else []
        if not whole or lacking:
            kept = source(run, step, protocol, store)
            found.append(Unscored(step, protocol, whole is not None, lacking, kept))
    return found


def weights_read(run: Run, score: Unscored) -> tuple[str, ...]:
    """The kinds of weights that a score is computed from; none where samples were kept."""
    return run.made_from(score.protocol.weights) if score.source == NETWORK else ()


def weights_needed(
    run: Run, sweep: Sweep, scores: Iterable[Unscored], damaged: Iterable[int]
) -> dict[int, set[str]]:
    """The kinds of weights that each step of a run must have.

    Weights that were deleted after every score was taken are not missed; damaged ones are.
    """
    scored = {step for step, _ in sweep.scores_of(run)}
    needed: dict[int, set[str]] = {
        step: set() if step in scored else {*run.averages} for step in sweep.steps_of(run)
    }
    for step in damaged:
        needed[step].add("ema")
    for score in scores:
        if score.source == NETWORK:
            needed[score.step] |= {"ema", *weights_read(run, score)}
    return needed


def newest(run: Run, store: Store, limit: int | None = None) -> int:
    """The newest step, at most `limit`, that training can resume from; 0 is the beginning."""
    steps = (s for s in reversed(store.steps(run)) if limit is None or s <= limit)
    return next((step for step in steps if is_whole(store.state(run, step))), 0)


def train_reason(
    absent: list[int], damaged: set[int], whole: set[int], resume: int, begun: bool
) -> str:
    """Why these steps are trained, and from where; `whole` are the steps whose EMA is there."""
    steps = ", ".join(map(str, absent))
    if torn := [step for step in absent if step in damaged]:
        first = f"checkpoint {torn[0]} is truncated"
    elif whole.issuperset(absent):
        first = f"no raw weights at {steps}"
    else:
        first = f"no checkpoint at {steps}"
    if resume:
        return f"{first}; continues from {resume}"
    return f"{first}; {'starts over' if begun else 'no checkpoint to continue from'}"


def imported_reason(reason: str, imported: list[int]) -> str:
    """Why imported weights do not suffice: training cannot continue from them."""
    return f"{reason.partition(';')[0]}; imported at {', '.join(map(str, imported))} alone"


def source(run: Run, step: int, protocol: AnyProtocol, store: Store) -> str:
    """What a score can be computed from: "features" or "latents" that were kept, or the network."""
    if isinstance(protocol, Validation):
        return NETWORK
    layer = next(iter(EXTRACTORS[protocol.features].layers))
    kept = {
        "features": (store.shards(run, step, protocol), layer),
        "latents": (store.latents(run, step, protocol), "latents"),
    }
    for kind, (folder, tensor) in kept.items():
        if folder.is_dir() and all(
            rows_in(shard_path(folder, first), tensor) >= len(span)
            for first, span in enumerate(shard_spans(protocol.images))
        ):
            return kind
    return NETWORK


def evaluate_reason(ready: bool, score: Unscored) -> str:
    """Why a checkpoint is scored, and from what where that is not its network."""
    origin = "" if score.source == NETWORK else f"; from kept {score.source}"
    if score.lacking:
        again = origin or "; its images were not kept: sampled again"
        return f"no {', '.join(score.lacking)} in its record{again}"
    if score.recorded:
        return f"its record is damaged{origin}"
    return f"not scored{origin}" if ready else "no checkpoint yet"
