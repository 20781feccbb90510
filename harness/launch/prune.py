"""What a store no longer needs: old launches, snapshots, temporary files, states. No torch."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from harness.base.errors import UserError
from harness.base.files import is_intact, read_json
from harness.base.locks import claim, is_claimed
from harness.launch.jobs import Jobs, launch_lock, query_jobs
from harness.launch.ledger import given, ledger
from harness.spec import Protocol, Run, Sweep
from harness.study.plan import Cell, survey
from harness.study.store import Store
from harness.study.tasks import Evaluate

STATES, KEPT = "states", "folders of kept samples"  # kinds that go only where they are asked for


class Item(NamedTuple):
    """A file or folder that can go."""

    kind: str
    path: Path
    bytes: int


def prunable(sweep: Sweep, store: Store, seen: Jobs, also: Collection[str]) -> list[Item]:
    """What no pending or running job needs, and neither plan nor status of this sweep.

    also: which of STATES and KEPT may go.
    """
    cells = survey(sweep, store)
    launches = list(old_launches(sweep, store, cells, seen))
    found = [
        *(("launches", path) for path in launches),
        *(("snapshots", path) for path in unused_code(store, launches)),
        *(("temporary files", path) for path in leftovers(sweep.runs, store)),
        *(("features of finished scores", path) for path in old_features(cells, store)),
    ]
    if KEPT in also:
        found += [(KEPT, path) for cell in cells for path in kept_samples(cell, store)]
    if STATES in also:
        found += [(STATES, path) for cell in cells for path in needless_states(cell, store)]
    return [Item(kind, path, size(path)) for kind, path in found]


def old_launches(sweep: Sweep, store: Store, cells: Iterable[Cell], seen: Jobs) -> Iterator[Path]:
    """This sweep's launches, but for those of live jobs and of a missing task's latest try."""
    missing = {task.id for cell in cells for task in cell.tasks}
    last = given(store)
    needed = {line["launch"] for task, line in last.items() if task in missing}
    needed |= {ticket.launch for ticket in [*seen.by_task.values(), *seen.untracked]}
    followers = [task for task in last if task.startswith(f"follower:{sweep.name}:")]
    needed |= {last[task]["launch"] for task in followers[-1:]}
    lines = [line for line in ledger(store) if "job" in line]
    others = {line["launch"] for line in lines if line["name"] != sweep.name}
    for launch in sorted({line["launch"] for line in lines} - needed - others):
        if (path := store.submissions() / launch).is_dir():
            yield path


def unused_code(store: Store, going: Collection[Path]) -> Iterator[Path]:
    """Snapshots that no launch names which stays; all stay where one does not say what it runs."""
    used = set()
    for path in store.submissions().glob("*/launch.json"):
        if path.parent not in going:
            try:
                spec = read_json(path)
            except (UserError, OSError):  # another person's
                return
            if spec.get("cluster", {}).get("executor") == "slurm" and "code" not in spec:
                return
            used.add(spec.get("code", {}).get("folder"))
    for package in sorted(store.code("").glob("**/harness/__init__.py")):
        copy = package.parent.parent
        if str(copy.resolve()) not in used:
            yield copy


def leftovers(runs: Iterable[Run], store: Store) -> Iterator[Path]:
    """What killed writers left of runs that nobody works on now."""
    for run in runs:
        if store.run(run).is_dir() and not at_work(run, store):
            yield from sorted(path for path in store.run(run).rglob(".*") if path.is_file())


def old_features(cells: Iterable[Cell], store: Store) -> Iterator[Path]:
    """Shards of features whose score is recorded, as a writer killed in between leaves them."""
    for cell in cells:
        if cell.scores and not at_work(cell.run, store):
            records = store.run(cell.run).glob("evals/*/[0-9]*.json")
            yield from (
                path.with_suffix("")
                for path in records
                if path.with_suffix("").is_dir() and is_intact(path)
            )


def kept_samples(cell: Cell, store: Store) -> Iterator[Path]:
    """What is kept of images that no missing score of the sweep is computed from."""
    if not cell.known or at_work(cell.run, store):
        return
    tasks = [task for task in cell.tasks if isinstance(task, Evaluate)]
    needed = {
        store.samples(cell.run, task.step, task.protocol)
        for task in tasks
        if isinstance(task.protocol, Protocol)
    }
    for path in sorted(store.run(cell.run).glob("samples/*/[0-9]*")):
        if path.is_dir() and path not in needed:
            yield path


def at_work(run: Run, store: Store) -> bool:
    return any(map(is_claimed, [store.train_claim(run), *store.run(run).rglob("*.lock")]))


def needless_states(cell: Cell, store: Store) -> Iterator[Path]:
    """The states of a run that is trained and scored."""
    if not cell.tasks and not at_work(cell.run, store):
        for step in store.steps(cell.run):
            if (path := store.state(cell.run, step)).exists():
                yield path


def size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def prune(sweep: Sweep, store: Store, executor: str, also: Collection[str]) -> list[Item]:
    """Removes what is prunable when it is asked for, with nobody submitting meanwhile.

    Raises:
        SchedulerUnavailable: which jobs live is not known: nothing is removed.
    """
    with launch_lock(store):
        items = prunable(sweep, store, query_jobs(store, executor), also)
        for item in items:
            if item.kind in ("launches", "snapshots"):
                remove(item.path)
        for run in sweep.runs:
            inside = [item.path for item in items if item.path.is_relative_to(store.run(run))]
            if inside:
                with claim(store.train_claim(run)) as mine:
                    for path in inside if mine else ():
                        remove(path)
    return items
