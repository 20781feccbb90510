"""`harness launch`: submits the missing tasks of a sweep, and follows them. No torch."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from harness.base.commit import PACKAGE
from harness.base.errors import UserError
from harness.base.validation import refuse
from harness.cli.plan import dry_run
from harness.cli.verb import (
    Verb,
    accept_changed_rows,
    add_changed_rows,
    add_dirty,
    add_dry_run,
    add_sweep,
    cluster_from,
    require_writable,
)
from harness.launch import jobs
from harness.launch.executors import executor
from harness.launch.follow import follow
from harness.launch.follower import detach
from harness.launch.local import OF_ONE_MACHINE, file_system
from harness.launch.outdated import outdated
from harness.launch.removed import removed
from harness.launch.snapshot import snapshot
from harness.launch.submit import Reconciled, submit
from harness.spec import Sweep
from harness.study.checks import problems
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.sweep_file import load_sweep


def launch_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--follow",
        action="store_true",
        help="submits until nothing is missing; scores each checkpoint as it appears",
    )
    parser.add_argument(
        "--detach",
        action="store_true",
        help="follows in a small job of its own, so that you can log out",
    )
    parser.add_argument(
        "--retry", action="store_true", help="also submits tasks that failed three times in a row"
    )
    parser.add_argument(
        "--end-removed",
        action="store_true",
        help="ends jobs of tasks that the sweep no longer asks for",
    )
    add_dirty(parser)
    parser.add_argument("--workers", type=int, help="jobs at a time on this machine")
    add_dry_run(parser)
    add_changed_rows(parser)


def launch(args: argparse.Namespace) -> int:
    cluster, sweep = cluster_from(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    if args.dry_run:
        return dry_run(sweep, store, cluster)
    if args.detach and not executor(cluster).DETACHED:
        raise UserError(
            f"--detach needs jobs that outlive this command; those of {cluster.executor} do not:"
            " use --cluster local"
        )
    require_writable(store)
    if args.changed_rows:
        accept_changed_rows(sweep, store)
    refuse(sweep.name, problems(sweep, missing(sweep, store), cluster))
    remote = executor(cluster).REMOTE
    if remote and (kind := file_system(store.root)) in OF_ONE_MACHINE:
        print(
            f"{store.root.resolve()} is on {kind}, which other machines see only if it is exported:"
            " jobs need it",
            file=sys.stderr,
        )
    code = snapshot(store, args.dirty) if remote else PACKAGE.parent
    end_removed(sweep, store, cluster, args.end_removed)
    if args.follow and not args.detach:
        return follow_here(sweep, store, cluster, code, args)
    done = submit(sweep.name, partial(missing, sweep, store), store, cluster, code, args.retry)
    print_reconciled(done, args.sweep, store)
    print_outdated(sweep, store, cluster)
    if args.detach and missing(sweep, store):
        return detach_here(sweep, store, cluster, code, len(done.submitted))
    return 0


LAUNCH = Verb(
    "launch",
    "Submits what is missing and has no job yet.",
    "digits --cluster local --follow",
    launch_options,
    launch,
)


def end_removed(sweep: Sweep, store: Store, cluster: Cluster, end: bool) -> None:
    """Reports the jobs of tasks that the sweep no longer asks for, or ends them."""
    found = removed(sweep, store, jobs.query_jobs(store, cluster.executor).by_task)
    if end and found:
        jobs.cancel([job["task"] for job in found], store, cluster.executor)
    does = "ended" if end else "not ended: --end-removed ends it"
    for job in found:
        print(f"job {job['job']} of {job['task']}, which the sweep no longer asks for: {does}")


def follow_here(
    sweep: Sweep, store: Store, cluster: Cluster, code: Path, args: argparse.Namespace
) -> int:
    left = None
    with suppress(KeyboardInterrupt):  # left behind, since its frames may hold a lock
        left = follow(sweep, store, cluster, code, partial(print, flush=True), args.retry)
    if left is None:
        if cluster.executor == "local":  # jobs of a scheduler go on by themselves
            print(
                "stopping the jobs on this machine: they save first; Ctrl-C again ends the wait",
                file=sys.stderr,
            )
            jobs.stop({task.id for task in missing(sweep, store)}, store, cluster.executor)
        raise KeyboardInterrupt
    for name in left:
        print(f"given up: {name}; see harness status {args.sweep}", file=sys.stderr)
    return 1 if left else 0


def print_reconciled(done: Reconciled, sweep: str, store: Store) -> None:
    for task in done.submitted:
        print(f"submitted {task.id}: {task.reason}")
    print(
        f"{len(done.submitted)} jobs submitted, {len(done.held)} already queued or running, in"
        f" {store.root.resolve()}; harness status {sweep} shows them"
    )
    if done.postponed:
        print(f"{len(done.postponed)} more exceed the limit on jobs: launch again, or --follow")
    if done.exhausted:
        print(
            f"{len(done.exhausted)} not submitted, since they failed repeatedly:"
            " harness status says why, --retry tries them again"
        )


def print_outdated(sweep: Sweep, store: Store, cluster: Cluster) -> None:
    """Names the waiting jobs that ask for other resources than the cluster file does now."""
    held = jobs.query_jobs(store, cluster.executor).by_task
    for task, changes in outdated(missing(sweep, store), store, cluster, held).items():
        print(
            f"job {held[task].job} of {task} waits with {'; '.join(changes)}:"
            " harness cancel, then launch, submits it with the new ones"
        )


def detach_here(sweep: Sweep, store: Store, cluster: Cluster, code: Path, submitted: int) -> int:
    try:
        job, new = detach(sweep, store, cluster, code)
    except UserError as error:
        raise UserError(
            f"{submitted} jobs submitted, but no follower: {str(error).partition(': fix')[0]}."
            " Run launch --follow, or launch again later"
        ) from None
    before = "" if new else ", submitted earlier: harness cancel ends it, to start another"
    print(f"job {job} follows{before}")
    return 0
