"""Missing tasks → jobs, at most one job for a task, however often it is launched. No torch."""

from __future__ import annotations

import contextlib
import datetime
import getpass
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from harness.base.commit import commit
from harness.base.files import append_lines
from harness.base.locks import is_claimed
from harness.launch.executors import executor
from harness.launch.folder import launch_folder, write_launch
from harness.launch.job import Job
from harness.launch.jobs import Jobs, launch_lock, query_jobs, withdraw
from harness.launch.ledger import cancelled, given, set_cancelled
from harness.launch.orders import Submission, order, pack
from harness.launch.outcomes import Tries, excluded, record_endings, tries, waits
from harness.launch.tickets import SchedulerUnavailable
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
        held = {task.id for task in wanted if task.id in seen.by_task}
        ready = [task for task in wanted if task.id not in held and task.ready]
        record_endings([task.id for task in ready], given(store), seen.tickets, store)
        tried = tries(store)
        given_up = set() if retry else exhausted(ready, tried, store, cluster)
        stopped = still_cancelled(wanted, store, asked)
        free = unlocked([t for t in ready if t.id not in given_up | stopped], wanted, held, store)
        backs_off = executor(cluster).DETACHED and not asked
        early = too_early(free, tried, cluster) if backs_off else set()
        chosen = sorted((t for t in free if t.id not in early), key=size, reverse=True)
        orders = [
            order(task, store, cluster, tried.get(task.id, Tries()), retry) for task in chosen
        ]
        packs = one_a_claim(pack(chosen, orders), {t.id: t.claim(store) for t in chosen})
        packs = packs[: room(name, seen, store, cluster)]
        jobs = submit_jobs(packs, Job, name, store, cluster, retry, code) if packs else {}
        submitted = [task for task in free if task.id in jobs]
        postponed = {task.id for task in free} - set(jobs)
        return Reconciled(submitted, held, given_up, stopped, postponed)


def still_cancelled(wanted: Collection[Task], store: Store, asked: bool) -> set[str]:
    """The tasks that stay cancelled; a launch that a person asks for wants all of them again."""
    withdrawn = cancelled(store).keys() & {task.id for task in wanted}
    if not asked:
        return withdrawn
    if withdrawn:
        set_cancelled(withdrawn, store, False)
    return set()


def unlocked(
    tasks: Collection[Task], wanted: Collection[Task], held: Collection[str], store: Store
) -> list[Task]:
    """The tasks whose claim no process has, and no job of a task that shares its samples."""
    busy = {task.claim(store) for task in wanted if task.id in held}
    claims = [(task, task.claim(store)) for task in tasks]
    return [task for task, path in claims if path not in busy and not is_claimed(path)]


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
