"""What the verbs of a sweep do: thin; each calls one function, prints what it says, and gives the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from harness.base.errors import UserError
from harness.base.validation import refuse
from harness.study.cluster import Cluster, read_cluster
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

RESULTS = Path("results")


def settled(args: argparse.Namespace) -> Cluster:
    """The cluster file, with what flags say in its process_group."""
    cluster = read_cluster(args.cluster)
    given = {
        name: value
        for name in ("store", "workers", "device")
        if (value := getattr(args, name, None)) is not None
    }
    return dataclasses.replace(cluster, **given)


def plan(args: argparse.Namespace) -> int:
    from harness.cli.tables import plan_json, plan_text
    from harness.study.checks import faults, notices
    from harness.study.plan import missing

    sweep, cluster = load_sweep(args.sweep), settled(args)
    store = Store(Path(cluster.store))
    found = plan_json(sweep, store, cluster, args.on)
    found["unfit"] = faults(sweep, missing(sweep, store), cluster)
    found["notices"] = notices({run.data for run in sweep.runs}, cluster.path)
    lines = [
        plan_text(found),
        *(f"Before it can run: {fault}" for fault in found["unfit"]),
        *found["notices"],
    ]
    print(json.dumps(found, indent=1) if args.json else "\n".join(lines))
    return 0


def status(args: argparse.Namespace) -> int:
    from harness.cli.tables import status_json, status_text

    sweep, cluster = load_sweep(args.sweep), settled(args)
    while True:
        found = status_json(sweep, Store(Path(cluster.store)), cluster)
        print(json.dumps(found, indent=1) if args.json else status_text(found), flush=True)
        if not args.watch or all(run["state"] == "done" for run in found["runs"]):
            return 0
        time.sleep(args.watch)


def run(args: argparse.Namespace) -> int:
    from harness.launch.run import run_all
    from harness.study.checks import faults
    from harness.study.plan import missing

    cluster, sweep = settled(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    writable(store)
    tasks = missing(sweep, store)
    count = len(tasks)
    refuse(sweep.name, faults(sweep, tasks, dataclasses.replace(cluster, nodes=1, gpus_per_node=0)))
    if not count:
        print(f"{sweep.name}: nothing is missing in {store.root}: nothing to do")
        return 0
    print(f"{sweep.name}: {count} tasks in {store.root}, {cluster.workers} at a time", flush=True)
    began = time.perf_counter()
    errors = run_all(sweep, store, cluster)
    left = len(missing(sweep, store))
    print(
        f"{sweep.name}: {count - left} of {count} tasks done in {time.perf_counter() - began:.0f} s"
    )
    return 1 if errors or left else 0


def bench(args: argparse.Namespace) -> int:
    from harness.base.distributed import process_group
    from harness.bench.timing import bench as measure
    from harness.bench.timing import bench_text, evaluations_text
    from harness.launch.perform import set_threads

    cluster, sweep = settled(args), load_sweep(args.sweep)
    if not args.seconds > 0:
        raise UserError(f"--seconds {args.seconds:g} must be above 0: 5 are enough for a median")
    if strange := set(args.models or ()) - {run.model for run in sweep.runs}:
        raise UserError(
            f"{sweep.name} has no {', '.join(sorted(strange))}: name models of its runs"
        )
    sweep = dataclasses.replace(
        sweep, runs=tuple(r for r in sweep.runs if not args.models or r.model in args.models)
    )
    store = Store(Path(cluster.store))
    writable(store)
    set_threads(cluster)
    with process_group(cluster.device) as rank:
        rows = measure(
            sweep,
            store,
            cluster,
            rank.device,
            args.seconds,
            partial(print, file=sys.stderr, flush=True),
        )
        if not rows:
            raise UserError(
                f"nothing of {sweep.name} could be measured in {args.seconds:g} s each: give more --seconds"
            )
        texts = (bench_text(rows), evaluations_text(sweep, store, rank.device))
    print(json.dumps(rows, indent=1) if args.json else "\n\n".join(texts))
    return 0


def launch(args: argparse.Namespace) -> int:
    from harness.base.commit import PACKAGE
    from harness.launch.follow import detach, follow
    from harness.launch.local import OF_ONE_MACHINE, file_system
    from harness.launch.snapshot import snapshot
    from harness.launch.submit import submit
    from harness.study.checks import faults
    from harness.study.plan import missing

    cluster, sweep = settled(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    if args.detach and cluster.executor == "debug":
        raise UserError(
            "--detach wants a job that goes on by itself, and debug has none: use --cluster local"
        )
    writable(store)
    refuse(sweep.name, faults(sweep, missing(sweep, store), cluster))
    if cluster.executor == "slurm" and (kind := file_system(store.root)) in OF_ONE_MACHINE:
        print(
            f"{store.root.resolve()} is on {kind}, which other machines see only if it is exported: jobs need it",
            file=sys.stderr,
        )
    code = snapshot(store, args.dirty) if cluster.executor == "slurm" else PACKAGE.parent
    if args.follow and not args.detach:
        left = follow(sweep, store, cluster, code, partial(print, flush=True), args.retry)
        for name in left:
            print(f"given up: {name}; see harness status {args.sweep}", file=sys.stderr)
        return 1 if left else 0
    tasks, held, _ = submit(
        sweep.name, partial(missing, sweep, store), store, cluster, code, args.retry
    )
    for task in tasks:
        print(f"submitted {task.id}: {task.reason}")
    print(
        f"{len(tasks)} jobs submitted, {len(held)} from before; harness status {args.sweep} shows them"
    )
    if args.detach and missing(sweep, store):
        job, new = detach(sweep, store, cluster, code)
        print(
            f"job {job} follows"
            + ("" if new else ", from before: harness cancel ends it, should it follow anew")
        )
    return 0


def cancel(args: argparse.Namespace) -> int:
    from harness.launch import jobs
    from harness.launch.follow import prefix
    from harness.study.plan import missing

    sweep, cluster = load_sweep(args.sweep), settled(args)
    store, name = Store(Path(cluster.store)), sweep.name if cluster.executor == "slurm" else None
    seen = jobs.look(store, name)
    names = [
        *(task for task in seen.jobs if task.startswith(prefix(sweep))),
        *(t.id for t in missing(sweep, store)),
    ]
    names = [task for task in names if task.startswith(args.task)]
    found = [(task, seen.jobs[task]) for task in names if task in seen.jobs]
    found += [("a launch that died on the way", ticket) for ticket in seen.strays]
    for task, ticket in found:
        print(f"{ticket.state:<10} job {ticket.job}: {task}")
    if not found:
        print(f"{sweep.name}: no job waits or runs: nothing to cancel")
    elif args.yes or input(f"cancel {len(found)} jobs? [y/N] ").lower() == "y":
        ended = jobs.cancel(names, store, name)
        print(f"{len(ended)} jobs cancelled; what they did is kept: harness launch goes on from it")
    return 0


def logs(args: argparse.Namespace) -> int:
    from harness.launch.jobs import look
    from harness.launch.ledger import find, log_text

    cluster = settled(args)
    store = Store(Path(cluster.store))
    line = find(args.task, store)
    if not Path(line["log"]).exists():
        raise UserError(
            f"job {line['job']} of {line['task']} has written no {line['log']}: harness status says why"
        )
    ended = (lambda: line["task"] not in look(store).jobs) if args.follow else (lambda: True)
    for text in log_text(Path(line["log"]), ended, cluster.poll_seconds):
        print(text, end="", flush=True)
    return 0


def collect(args: argparse.Namespace) -> int:
    from harness.study.collect import collect as gather

    sweep = load_sweep(args.sweep)
    path, count, said = gather(sweep, Store(Path(settled(args).store)), args.out)
    for line in said:
        print(line, file=sys.stderr)
    print(f"{path}: {count} values")
    return 0


def report(args: argparse.Namespace) -> int:
    from harness.cli.report import report as write
    from harness.cli.report import summary, table

    if len(args.sweep) > 2:
        raise UserError(
            f"report takes one sweep or two, not {len(args.sweep)}: name two to compare"
        )
    path = write(args.sweep, settled(args), args.results, args.out, args.protocol)
    print(*[summary(table(study, args.results), args.protocol) for study in args.sweep], sep="\n\n")
    print(f"\nthe report: {path}")
    return 0


def predict(args: argparse.Namespace) -> int:
    from harness.cli.report import predict as fitted
    from harness.cli.tables import predict_text

    rows = fitted(args.sweep, args.results, args.model, args.protocol)
    print(json.dumps(rows, indent=1) if args.json else predict_text(rows))
    return 0


def writable(store: Store) -> None:
    """Raises OSError now rather than after an hour of training."""
    store.root.mkdir(parents=True, exist_ok=True)
    if not os.access(store.root, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(store.root))
