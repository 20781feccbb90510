"""The verbs of `harness`: thin; each calls one function and prints what it says."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import __version__
from harness.cluster import Cluster, read_cluster
from harness.store import Store
from harness.sweep_file import load_sweep

RESULTS = Path("results")


def settled(args: argparse.Namespace) -> Cluster:
    """The cluster file, with what flags say in its place."""
    cluster = read_cluster(args.cluster)
    given = {name: value for name in ("store", "workers", "device") if (value := getattr(args, name, None)) is not None}
    return dataclasses.replace(cluster, **given)


def plan(args: argparse.Namespace) -> int:
    from harness.tables import plan_json, plan_text

    found = plan_json(load_sweep(args.sweep), Store(Path(settled(args).store)))
    print(json.dumps(found, indent=1) if args.json else plan_text(found))
    return 0


def status(args: argparse.Namespace) -> int:
    from harness.tables import status_json, status_text

    sweep, store = load_sweep(args.sweep), Store(Path(settled(args).store))
    while True:
        found = status_json(sweep, store)
        print(json.dumps(found, indent=1) if args.json else status_text(found), flush=True)
        if not args.watch or all(run["state"] == "done" for run in found["runs"]):
            return 0
        time.sleep(args.watch)


def run(args: argparse.Namespace) -> int:
    from harness.plan import missing
    from harness.work import run_all

    cluster, sweep = settled(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    writable(store)
    count = len(missing(sweep, store))
    if not count:
        print(f"{sweep.name}: nothing is missing in {store.root}: nothing to do")
        return 0
    print(f"{sweep.name}: {count} tasks in {store.root}, {cluster.workers} at a time", flush=True)
    began = time.perf_counter()
    errors = run_all(sweep, store, cluster)
    left = len(missing(sweep, store))
    print(f"{sweep.name}: {count - left} of {count} tasks done in {time.perf_counter() - began:.0f} s")
    return 1 if errors or left else 0


def launch(args: argparse.Namespace) -> int:
    from harness.launch import follow, submit

    cluster, sweep = settled(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    writable(store)
    if args.follow:
        left = follow(sweep, store, cluster, args.retry, print)
        for task in left:
            print(f"given up: {task}; see harness status {args.sweep}", file=sys.stderr)
        return 1 if left else 0
    tasks = submit(sweep, store, cluster, args.retry)
    for task in tasks:
        print(f"submitted {task.id}: {task.reason}")
    print(f"{len(tasks)} jobs submitted; harness status {args.sweep} shows them")
    return 0


def collect(args: argparse.Namespace) -> int:
    from harness.collect import collect as gather

    sweep = load_sweep(args.sweep)
    path, count, said = gather(sweep, Store(Path(settled(args).store)), args.out)
    for line in said:
        print(line, file=sys.stderr)
    print(f"{path}: {count} values")
    return 0


def report(args: argparse.Namespace) -> int:
    from harness.pages import report as write

    print(write(args.sweep, settled(args), RESULTS, args.out))
    return 0


def writable(store: Store) -> None:
    """Raises OSError now rather than after an hour of training."""
    store.root.mkdir(parents=True, exist_ok=True)
    if not os.access(store.root, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(store.root))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "harness", description="Scaling studies of diffusion transformers: plan, train, score, collect, report.",
        epilog="SWEEP is a name in sweeps/ or a path to a .py file. Begin with: harness plan digits",
    )  # fmt: skip
    top.add_argument("--version", action="version", version=__version__)
    verbs = top.add_subparsers(required=True, metavar="VERB")

    def verb(function: Any, about: str, example: str) -> argparse.ArgumentParser:
        name = function.__name__
        made = verbs.add_parser(name, help=about, description=about, epilog=f"example: harness {name} {example}")
        made.set_defaults(function=function)
        return made

    def sweep_verb(function: Any, about: str, example: str) -> argparse.ArgumentParser:
        made = verb(function, about, example)
        made.add_argument("sweep", metavar="SWEEP", help="a name in sweeps/, or a path to a .py file")
        made.add_argument("--cluster", default="local", help="local, debug or a TOML file (default: local)")
        made.add_argument("--store", help="the folder of runs (default: the cluster's, else ./store)")
        return made

    made = sweep_verb(plan, "What is missing and why; parameters, Gflops, hours, disk. Starts nothing.", "dit_grid")
    made.add_argument("--json", action="store_true", help="for scripts")

    made = sweep_verb(run, "Does every missing task here, with a progress bar; run it again to go on.", "digits --workers 2")
    made.add_argument("--workers", type=int, help="tasks side by side, one CPU thread each (default: the cluster's, else 1)")
    made.add_argument("--device", help="auto, cpu or cuda (default: auto)")

    made = sweep_verb(launch, "Submits what is missing and not live through submitit.", "digits --cluster local --follow")
    made.add_argument("--follow", action="store_true", help="until nothing is missing: scores each checkpoint as it appears")
    made.add_argument("--retry", action="store_true", help="also tasks that failed three times in a row")
    made.add_argument("--workers", type=int, help="jobs at a time on this machine")

    made = sweep_verb(status, "Expected × found, who is at work, and what failed.", "digits --watch 5")
    made.add_argument("--json", action="store_true", help="for scripts")
    made.add_argument("--watch", type=float, metavar="SECONDS", help="again every so many seconds, until all is done")

    made = sweep_verb(collect, "Records → results/<sweep>.csv, with its log and samples beside.", "digits")
    made.add_argument("--out", type=Path, default=RESULTS, help="folder (default: results)")

    made = sweep_verb(report, "Figures (PDF, PNG, SVG, CSV) and one HTML page, of a sweep or of peebles2023.", "digits")
    made.add_argument("--out", type=Path, help="folder (default: results/report/<sweep>)")
    return top


REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again: nothing is half-written",
    errno.EDQUOT: "free some of your quota and run the same command again: nothing is half-written",
    errno.EROFS: "choose a folder that can be written with --store",
    errno.EACCES: "choose a folder that can be written with --store",
}


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        return int(args.function(args))
    except ValueError as error:
        message = str(error)
    except FloatingPointError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or args.function.__name__}: {error.strerror or error}: "
        message += REMEDIES.get(error.errno or 0, "mend that and run the same command again")
    except KeyboardInterrupt:
        print("\nharness: stopped; what was done is kept: run the same command to go on", file=sys.stderr)
        return 130
    print(f"harness: {message}", file=sys.stderr)
    return 1
