"""Missing tasks → jobs, at most one job for a task, however often it is launched. No torch."""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from harness.base.commit import commit
from harness.base.files import append_lines, write_json
from harness.base.locks import is_claimed
from harness.launch import snapshot
from harness.launch.executors import executor
from harness.launch.job import Job
from harness.launch.jobs import Jobs, launch_lock, query_jobs, withdraw
from harness.launch.ledger import cancelled, given, set_cancelled
from harness.launch.orders import Submission, order, pack
from harness.launch.outcomes import Tries, excluded, record_endings, tries, waits
from harness.launch.tickets import SchedulerUnavailable
from harness.spec.own_rows import LOADED
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Task

FOLLOWER = "follower:"  # begins the names of followers, which are no tasks


class Reconciled(NamedTuple):
    """What a launch found and did."""

    submitted: list[Task]
    held: set[str]  # tasks that had a job already
    exhausted: set[str]  # tasks left alone: they failed `retries` times in a row
    cancelled: set[str]  # tasks left alone: a person withdrew them
    postponed: set[str]  # tasks left for a later round: a limit on jobs, or they have just failed

    @property
    def left(self) -> set[str]:
        return self.exhausted | self.cancelled


def submit(
    name: str,
    wanted_now: Callable[[], list[Task]],
    store: Store,
    cluster: Cluster,
    code: Path,
    retry: bool = False,
    asked: bool = True,
) -> Reconciled:
    """Submits a job for each wanted task that is ready and has no job yet; asked twice, once.

    `wanted_now` lists the missing tasks; it is called under the lock.
    `asked`: by a person, so that what was cancelled is wanted again, and nothing is postponed for
    having just failed.

    Raises:
        UserError: another launch holds the lock, or the scheduler refuses.
    """
    with launch_lock(store):
        seen = query_jobs(store, cluster.executor)
        # Another person's job only that person may end: the claim protects the task.
        with contextlib.suppress(SchedulerUnavailable):
            withdraw(seen.untracked)
        wanted = wanted_now()
        held = {t.id for t in wanted if t.id in seen.by_task}
        ready = [t for t in wanted if t.id not in held and t.ready]
        record_endings([t.id for t in ready], given(store), seen.tickets, store)
        tried = tries(store)
        worn = set() if retry else exhausted(ready, tried, store, cluster)
        withdrawn = cancelled(store).keys() & {task.id for task in wanted}
        if asked and withdrawn:
            set_cancelled(withdrawn, store, False)
        off = set() if asked else withdrawn
        busy = {t.claim(store) for t in wanted if t.id in held}  # also of those that share samples
        tasks = [
            t
            for t in ready
            if t.id not in worn | off
            and t.claim(store) not in busy
            and not is_claimed(t.claim(store))
        ]
        backs_off = executor(cluster).DETACHED and not asked
        early = too_early(tasks, tried, cluster) if backs_off else set()
        free = room(name, seen, store, cluster)
        chosen = sorted((t for t in tasks if t.id not in early), key=size, reverse=True)
        orders = [
            order(task, store, cluster, tried.get(task.id, Tries()), retry) for task in chosen
        ]
        packs = one_a_claim(pack(chosen, orders), {t.id: t.claim(store) for t in chosen})[:free]
        jobs = submit_jobs(packs, Job, name, store, cluster, retry, code) if packs else {}
        taken = [task for task in tasks if task.id in jobs]
        later = {task.id for task in tasks} - set(jobs)
        return Reconciled(taken, held, worn, off, later)


def size(task: Task) -> float:
    return task.size


def one_a_claim(
    packs: Sequence[list[Submission]], claims: Mapping[str, Path]
) -> list[list[Submission]]:
    """The jobs whose samples no job before them makes: the others wait for what that one keeps."""
    taken: set[Path] = set()
    kept = []
    for one in packs:
        wanted = {claims[order.task] for order in one}
        if not wanted & taken:
            kept.append(one)
            taken |= wanted
    return kept


def exhausted(
    tasks: Collection[Task], tried: Mapping[str, Tries], store: Store, cluster: Cluster
) -> set[str]:
    """The tasks whose last jobs ended without result or progress, `retries` times in a row."""
    return {
        task.id
        for task in tasks
        if (before := tried.get(task.id))
        and before.is_exhausted(task.resources(cluster).retries)
        and task.position(store) <= before.at
    }


def too_early(tasks: Collection[Task], tried: Mapping[str, Tries], cluster: Cluster) -> set[str]:
    return {
        task.id
        for task in tasks
        if task.id in tried and waits(tried[task.id], cluster.poll_seconds, cluster.latency_seconds)
    }


def room(name: str, seen: Jobs, store: Store, cluster: Cluster) -> int | None:
    """How many jobs of the sweep may be submitted beside those that wait or run; None is any."""
    if cluster.max_jobs is None:
        return None
    last = given(store)
    alive = {
        ticket
        for task, ticket in seen.by_task.items()
        if last[task]["name"] == name and not task.startswith(FOLLOWER)
    }
    return max(0, cluster.max_jobs - len(alive))


def submit_jobs(
    packs: Sequence[Sequence[Submission]],
    kind: type[Job],
    name: str,
    store: Store,
    cluster: Cluster,
    retry: bool,
    code: Path,
) -> dict[str, str]:
    """Submits a job for each pack, and writes the accepted ones to the ledger; job ids by task."""
    bad = [] if retry else excluded(store)
    firsts = [first for first, *_ in packs]
    resources = [
        replace(o.resources, exclude=list(dict.fromkeys([*o.resources.exclude, *bad])))
        for o in firsts
    ]
    folder = launch_folder(store)
    write_launch(folder, list(chain.from_iterable(packs)), store, cluster, code)
    handles = executor(cluster).submit(
        [kind(str(folder), *(o.task for o in pack)) for pack in packs],
        resources,
        [f"{o.label}.{name}" for o in firsts],
        folder,
        code,
    )
    shared = {
        "executor": cluster.executor,
        "launch": folder.name,
        "name": name,
        "commit": commit(),
        "user": getpass.getuser(),
        "retry": retry,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    taken = [
        (o, handle) for pack, handle in zip(packs, handles, strict=True) if handle for o in pack
    ]
    append_lines(
        store.ledger(),
        [
            {"task": o.task, "job": handle.job, "log": str(handle.log), "at": o.at, **shared}
            for o, handle in taken
        ],
    )
    return {o.task: handle.job for o, handle in taken}


def launch_folder(store: Store) -> Path:
    """A fresh folder, since submitit reads old results in an old one; its owner's alone.

    What lies there is code to a job, and its script holds the values of `environment`. Folders of
    launches that were killed before they could submit anything are removed; the caller has the
    lock, so that none of them is at work.
    """
    for path in store.submissions().glob("[0-9]*T[0-9]*"):
        if path.stat().st_uid == os.getuid() and not (path / "launch.json").exists():
            shutil.rmtree(path)
    name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    folder = (store.submissions() / name).resolve()
    folder.mkdir(mode=0o700, parents=True)
    return folder


def copy_rows(folder: Path) -> dict[str, str]:
    """Copies the files of rows that the sweep uses for its jobs; their digests by name."""
    (folder / "rows").mkdir()
    for name, file in LOADED.items():
        shutil.copyfile(file.path, folder / "rows" / name)
    return {name: file.digest for name, file in LOADED.items()}


def write_launch(
    folder: Path, orders: Sequence[Submission], store: Store, cluster: Cluster, code: Path
) -> None:
    """What the jobs read when they begin. Values of `environment` are in theirs, not in a file."""
    paths = {key: str(Path(path).expanduser().resolve()) for key, path in cluster.paths.items()}
    fields = asdict(cluster) | {"store": str(store.root.resolve()), "paths": paths}
    spec = {
        "cluster": fields | {"environment": {}},
        "environment": sorted(cluster.environment),
        "tasks": {o.task: o.launch_spec for o in orders},
    }
    if LOADED:
        spec["rows"] = copy_rows(folder)
    if executor(cluster).REMOTE:
        spec["code"] = snapshot.describe(code)
    write_json(folder / "launch.json", spec)
    (folder / "launch.json").chmod(0o600)
