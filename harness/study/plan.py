"""missing(sweep, store): the tasks a sweep lacks in a store, each with its reason. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    steps, kinds = store.steps(run), weights_scored(run, sweep)
    asked, scores = sweep.steps_of(run), sweep.scores_of(run)
    wanted = [step for step in steps if step in asked]
    whole = {k: {s for s in wanted if is_whole(store.weights(run, s, k))} for k in kinds}
    damaged = {s for s in wanted if store.ema(run, s).exists()} - whole["ema"]
    records = {protocol.id: store.recorded(run, protocol) for protocol in sweep.protocols}
    # Of a score that is there, the values it lacks; of another, None.
    lacking = {
        (s, p): store.lacking(run, s, p) if records[p.id].get(s) else None for s, p in scores
    }
    sources = {pair: source(run, *pair, store) for pair, names in lacking.items() if names != []}
    # Weights that were deleted after every score was taken are not missed; damaged ones are.
    scored = {s for s, _ in scores}
    needed: dict[int, set[str]] = {s: set() if s in scored else {*run.averages} for s in asked}
    for s in damaged:
        needed[s].add("ema")
    for (s, p), kept in sources.items():
        needed[s] |= {"ema", *run.made_from(p.weights)} if kept == NETWORK else set()
    absent = [s for s in asked if any(s not in whole[kind] for kind in needed[s])]
    tasks: list[Task] = []
    if absent:
        resume = newest(run, store, absent[0])
        reason = train_reason(absent, damaged, whole["ema"], resume, bool(steps))
        if imported := store.imported_steps(run):
            reason = imported_reason(reason, imported)
        tasks.append(Train(run, tuple(absent), resume, reason, kinds))
    for (s, p), kept in sources.items():
        ready = kept != NETWORK or all(s in whole[kind] for kind in run.made_from(p.weights))
        reason = evaluate_reason(ready, s in records[p.id], lacking[s, p] or [], kept)
        tasks.append(Evaluate(run, s, p, ready, reason, sweep.keep, kept))
    there, scored_now = tuple(sorted(whole["ema"])), len(scores) - len(sources)
    return Cell(run, True, newest(run, store), there, scored_now, tuple(tasks), kinds)


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
    """Why imported weights do not do, of which no training goes on."""
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


def evaluate_reason(ready: bool, recorded: bool, lacking: list[str], kept: str) -> str:
    """Why a checkpoint is scored, and from what where that is not its network."""
    origin = "" if kept == NETWORK else f"; from kept {kept}"
    if lacking:
        again = origin or "; its images were not kept: sampled again"
        return f"no {', '.join(lacking)} in its record{again}"
    if recorded:
        return f"its record is damaged{origin}"
    return f"not scored{origin}" if ready else "no checkpoint yet"
