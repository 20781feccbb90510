"""`harness run` and `harness bench`: a sweep on this machine, and how fast it is."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from functools import partial
from pathlib import Path

from harness.base.errors import UserError
from harness.base.validation import refuse
from harness.cli.plan import dry_run
from harness.cli.verb import (
    Verb,
    accept_changed_rows,
    add_changed_rows,
    add_device,
    add_dry_run,
    add_json,
    add_sweep,
    cluster_from,
    require_writable,
)
from harness.study.store import Store
from harness.study.sweep_file import load_sweep


def run_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--workers",
        type=int,
        help="tasks at a time, one CPU thread each (default: the cluster's, else 1)",
    )
    add_device(parser)
    add_dry_run(parser)
    add_changed_rows(parser)


def run(args: argparse.Namespace) -> int:
    from harness.launch.run import run_all
    from harness.study.checks import problems
    from harness.study.plan import missing

    cluster, sweep = cluster_from(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    if args.dry_run:
        return dry_run(sweep, store, cluster)
    require_writable(store)
    if args.changed_rows:
        accept_changed_rows(sweep, store)
    tasks = missing(sweep, store)
    count = len(tasks)
    alone = dataclasses.replace(cluster, nodes=1, gpus_per_node=0)
    refuse(sweep.name, problems(sweep, tasks, alone))
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


RUN = Verb(
    "run",
    "Runs every missing task on this machine; run it again to resume.",
    "digits --workers 2",
    run_options,
    run,
)


def bench_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser, nargs="?", default="dit_grid")
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="seconds that each workload is timed (default: 5)",
    )
    add_device(parser)
    add_json(parser)


def bench(args: argparse.Namespace) -> int:
    from harness.base.distributed import process_group
    from harness.bench.timing import bench as measure
    from harness.bench.timing import bench_text, evaluations_text
    from harness.launch.perform import set_threads

    cluster, sweep = cluster_from(args), load_sweep(args.sweep)
    if not args.seconds > 0:
        raise UserError(f"--seconds {args.seconds:g} must be above 0: 5 are enough for a median")
    store = Store(Path(cluster.store))
    require_writable(store)
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
                f"nothing of {sweep.name} could be measured in {args.seconds:g} s each:"
                " give more --seconds"
            )
        texts = (bench_text(rows), evaluations_text(sweep, store, rank.device))
    print(json.dumps(rows, indent=1) if args.json else "\n\n".join(texts))
    return 0


BENCH = Verb(
    "bench",
    "Measures how fast this device does a sweep's work; plan uses it.",
    "digits --seconds 1",
    bench_options,
    bench,
)
