"""`harness cancel` and `logs`: ends the jobs of a sweep, and prints what they wrote. No torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.base.errors import UserError
from harness.cli.verb import Verb, add_cluster, add_sweep, cluster_from, confirmed
from harness.launch import jobs
from harness.launch.follower import prefix
from harness.launch.ledger import find_all
from harness.launch.logs import log_files, log_text
from harness.launch.removed import removed
from harness.launch.tickets import Line
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.sweep_file import load_sweep


def cancel_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.set_defaults(task="")  # a word after SWEEP that is no FIELD=VALUE
    parser.usage = "harness cancel SWEEP [TASK] [FIELD=VALUE ...] [options]"
    parser.add_argument("--yes", action="store_true", help="does not ask")


def cancel(args: argparse.Namespace) -> int:
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    store = Store(Path(cluster.store))
    seen = jobs.query_jobs(store, cluster.executor)
    names = [
        *(task for task in seen.by_task if task.startswith(prefix(sweep))),
        *(task.id for task in missing(sweep, store)),
        *(job["task"] for job in removed(sweep, store, seen.by_task)),
    ]
    names = [task for task in names if task.startswith(args.task)]
    found = [(task, seen.by_task[task]) for task in names if task in seen.by_task]
    found += [("an interrupted launch", ticket) for ticket in seen.untracked]
    for task, ticket in found:
        print(f"{ticket.state:<10} job {ticket.job}: {task}")
    if not found:
        print(f"{sweep.name}: no pending or running job: nothing to cancel")
    elif args.yes or confirmed(f"cancel {len(found)} jobs?"):
        ended = jobs.cancel(names, store, cluster.executor)
        print(
            f"{len(ended)} jobs cancelled; their progress is kept: harness launch continues from it"
        )
    return 0


CANCEL = Verb(
    "cancel",
    "Ends this sweep's jobs, or those of tasks that begin with TASK, after asking.",
    "digits --yes",
    cancel_options,
    cancel,
)


def logs_options(parser: argparse.ArgumentParser) -> None:
    add_cluster(parser)
    parser.add_argument(
        "task", metavar="TASK", help="a task's name or its beginning, such as a run's id"
    )
    parser.add_argument("--follow", action="store_true", help="prints new lines until the job ends")
    parser.add_argument("--job", help="the log of this job (default: the task's latest)")
    parser.add_argument(
        "--previous", action="store_true", help="the log of the job before the latest"
    )
    parser.add_argument("--rank", type=int, default=0, help="the log of this rank (default: 0)")


def logs(args: argparse.Namespace) -> int:
    cluster = cluster_from(args)
    store = Store(Path(cluster.store))
    line = chosen(find_all(args.task, store), args)
    files = log_files(line)
    if not 0 <= args.rank < len(files):
        raise UserError(f"--rank {args.rank}: job {line['job']} has {len(files)} logs, from 0")
    if not files[args.rank].exists():
        raise UserError(
            f"job {line['job']} of {line['task']} has written no {files[args.rank]}: it never"
            " began, or its node does not see the store"
        )

    def ended() -> bool:
        ticket = jobs.query_jobs(store).by_task.get(line["task"]) if args.follow else None
        return ticket is None or ticket.job != line["job"]

    for text in log_text(files[args.rank], ended, cluster.poll_seconds):
        print(text, end="", flush=True)
    return 0


def chosen(lines: list[Line], args: argparse.Namespace) -> Line:
    """The job of a task whose log is asked for.

    Raises:
        UserError: there is no such job.
    """
    known = [line["job"] for line in lines]
    if args.job:
        lines = [line for line in lines if line["job"] == args.job]
    elif args.previous:
        lines = lines[:-1]
    if not lines:
        asked = f"--job {args.job}" if args.job else "--previous"
        raise UserError(f"{asked}: the jobs of this task are {', '.join(known)}")
    return lines[-1]


LOGS = Verb(
    "logs", "Prints the log of a task's latest job.", "mini-DiT-S-8_ --follow", logs_options, logs
)
