"""What each verb of `harness` does: thin; each calls one function, prints what it says, and gives the exit status."""

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

from harness.cluster import Cluster, read_cluster
from harness.data import DATASETS
from harness.data.index import damaged, notices, read_index, refuse_unreadable, wrong_sizes
from harness.spec import ENCODERS, one_of, refuse, within
from harness.store import Store
from harness.sweep_file import load_sweep

RESULTS = Path("results")


def settled(args: argparse.Namespace) -> Cluster:
    """The cluster file, with what flags say in its place."""
    cluster = read_cluster(args.cluster)
    given = {name: value for name in ("store", "workers", "device") if (value := getattr(args, name, None)) is not None}
    return dataclasses.replace(cluster, **given)


def plan(args: argparse.Namespace) -> int:
    from harness.checks import faults
    from harness.plan import missing
    from harness.tables import plan_json, plan_text

    sweep, cluster = load_sweep(args.sweep), settled(args)
    store = Store(Path(cluster.store))
    found = plan_json(sweep, store, cluster, args.on)
    found["unfit"] = faults(sweep, missing(sweep, store), cluster)
    found["notices"] = notices({run.data for run in sweep.runs}, cluster.path)
    lines = [plan_text(found), *(f"Before it can run: {fault}" for fault in found["unfit"]), *found["notices"]]
    print(json.dumps(found, indent=1) if args.json else "\n".join(lines))
    return 0


def status(args: argparse.Namespace) -> int:
    from harness.tables import status_json, status_text

    sweep, cluster = load_sweep(args.sweep), settled(args)
    while True:
        found = status_json(sweep, Store(Path(cluster.store)), cluster)
        print(json.dumps(found, indent=1) if args.json else status_text(found), flush=True)
        if not args.watch or all(run["state"] == "done" for run in found["runs"]):
            return 0
        time.sleep(args.watch)


def run(args: argparse.Namespace) -> int:
    from harness.checks import faults
    from harness.plan import missing
    from harness.work import run_all

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
    print(f"{sweep.name}: {count - left} of {count} tasks done in {time.perf_counter() - began:.0f} s")
    return 1 if errors or left else 0


def bench(args: argparse.Namespace) -> int:
    from harness.bench import bench as measure
    from harness.bench import bench_text, evaluations_text
    from harness.distributed import place
    from harness.work import set_threads

    cluster, sweep = settled(args), load_sweep(args.sweep)
    if not args.seconds > 0:
        raise ValueError(f"--seconds {args.seconds:g} must be above 0: 5 are enough for a median")
    if strange := set(args.models or ()) - {run.model for run in sweep.runs}:
        raise ValueError(f"{sweep.name} has no {', '.join(sorted(strange))}: name models of its runs")
    sweep = dataclasses.replace(sweep, runs=tuple(r for r in sweep.runs if not args.models or r.model in args.models))
    store = Store(Path(cluster.store))
    writable(store)
    set_threads(cluster)
    with place(cluster.device) as here:
        rows = measure(sweep, store, cluster, here.device, args.seconds, partial(print, file=sys.stderr, flush=True))
        if not rows:
            raise ValueError(
                f"nothing of {sweep.name} could be measured in {args.seconds:g} s each: give more --seconds"
            )
        texts = (bench_text(rows), evaluations_text(sweep, store, here.device))
    print(json.dumps(rows, indent=1) if args.json else "\n\n".join(texts))
    return 0


def launch(args: argparse.Namespace) -> int:
    from harness.checks import faults
    from harness.follow import detach, follow
    from harness.launch import submit
    from harness.local import OF_ONE_MACHINE, file_system
    from harness.plan import missing
    from harness.snapshot import PACKAGE, snapshot

    cluster, sweep = settled(args), load_sweep(args.sweep)
    store = Store(Path(cluster.store))
    if args.detach and cluster.executor == "debug":
        raise ValueError("--detach wants a job that goes on by itself, and debug has none: use --cluster local")
    writable(store)
    refuse(sweep.name, faults(sweep, missing(sweep, store), cluster))
    if cluster.executor == "slurm" and (kind := file_system(store.root)) in OF_ONE_MACHINE:
        print(f"{store.root.resolve()} is on {kind}, which other machines see only if it is exported: jobs need it",
              file=sys.stderr)  # fmt: skip
    code = snapshot(store, args.dirty) if cluster.executor == "slurm" else PACKAGE.parent
    if args.follow and not args.detach:
        left = follow(sweep, store, cluster, code, partial(print, flush=True), args.retry)
        for name in left:
            print(f"given up: {name}; see harness status {args.sweep}", file=sys.stderr)
        return 1 if left else 0
    tasks, held, _ = submit(sweep, store, cluster, code, args.retry)
    for task in tasks:
        print(f"submitted {task.id}: {task.reason}")
    print(f"{len(tasks)} jobs submitted, {len(held)} from before; harness status {args.sweep} shows them")
    if args.detach and missing(sweep, store):
        job, new = detach(sweep, store, cluster, code)
        print(f"job {job} follows" + ("" if new else ", from before: harness cancel ends it, should it follow anew"))
    return 0


def cancel(args: argparse.Namespace) -> int:
    from harness import jobs
    from harness.follow import prefix
    from harness.plan import missing

    sweep, cluster = load_sweep(args.sweep), settled(args)
    store, name = Store(Path(cluster.store)), sweep.name if cluster.executor == "slurm" else None
    seen = jobs.look(store, name)
    names = [*(task for task in seen.jobs if task.startswith(prefix(sweep))), *(t.id for t in missing(sweep, store))]
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
    from harness.jobs import look
    from harness.ledger import find, log_text

    cluster = settled(args)
    store = Store(Path(cluster.store))
    line = find(args.task, store)
    if not Path(line["log"]).exists():
        raise ValueError(f"job {line['job']} of {line['task']} has written no {line['log']}: harness status says why")
    ended = (lambda: line["task"] not in look(store).jobs) if args.follow else (lambda: True)
    for text in log_text(Path(line["log"]), ended, cluster.poll_seconds):
        print(text, end="", flush=True)
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
    from harness.pages import summary, table

    if len(args.sweep) > 2:
        raise ValueError(f"report takes one sweep or two, not {len(args.sweep)}: name two to compare")
    path = write(args.sweep, settled(args), args.results, args.out, args.protocol)
    print(*[summary(table(study, args.results), args.protocol) for study in args.sweep], sep="\n\n")
    print(f"\nthe report: {path}")
    return 0


def predict(args: argparse.Namespace) -> int:
    from harness.pages import predict as fitted
    from harness.tables import predict_text

    rows = fitted(args.sweep, args.results, args.model, args.protocol)
    print(json.dumps(rows, indent=1) if args.json else predict_text(rows))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    from harness.score import score

    found = score(args.samples, args.reference, args.inception, args.extractor, device=device())
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    for name, value in found.items():
        print(f"{name:<18}{value:.4f}" if isinstance(value, float) else f"{name:<18}{value}")
    return 0


def sample(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from harness.distributed import place
    from harness.evaluate import write_samples
    from harness.plan import Evaluate

    cluster, sweep = settled(args), load_sweep(args.sweep)
    runs = [r for r in sweep.runs if args.run in (r.model, r.id)]
    protocols = [p for p in sweep.protocols if args.protocol in (None, p.name, p.id)]
    if len(runs) != 1 or len(protocols) != 1:
        there = "; ".join(", ".join(part.id for part in parts) for parts in (sweep.runs, sweep.protocols))
        raise ValueError(f"--run {args.run} --protocol {args.protocol} must name one run and one protocol of: {there}")
    task = Evaluate(runs[0], args.step or sweep.steps[-1], protocols[0], True, "asked for")
    with (
        place(cluster.device) as here,
        tqdm(total=1.0, file=sys.stderr, delay=1, bar_format="{percentage:3.0f}% {desc}") as bar,
    ):

        def tell(news: str, share: float) -> None:
            bar.set_description_str(news)
            bar.update(share - bar.n)

        write_samples(task, Store(Path(cluster.store)), cluster, here, args.out, tell)
    print(f"{args.out}: {task.protocol.images} images of {task.run.id} at step {task.step}")
    return 0


def parity(args: argparse.Namespace) -> int:
    from harness.score import parity as compare
    from harness.score import parity_table

    rows = compare(args.samples, args.reference, args.inception, device())
    print(parity_table(rows))
    return 0 if all(row["within"] for row in rows) else 1


def encode(args: argparse.Namespace) -> int:
    from harness.launch import submit
    from harness.plan import Encode, missing
    from harness.snapshot import PACKAGE, snapshot
    from harness.work import with_bar

    if args.verify:
        return verify(args.images)
    refuse("encode", encode_faults(args))
    cluster, out = settled(args), args.out.resolve()
    store = Store(Path(cluster.store))
    task = Encode(str(args.images.resolve()), str(out), args.data, args.vae, args.shard)
    if missing(task, store) and cluster.executor != "local":
        code = snapshot(store, args.dirty) if cluster.executor == "slurm" else PACKAGE.parent
        tasks, held, _ = submit(task, store, cluster, code, args.retry)
        print(f"{len(tasks)} jobs submitted, {len(held & {task.id})} from before; harness logs {task.name} shows it")
        return 0
    if missing(task, store):
        with_bar(task, store, cluster)
    if os.environ.get("RANK", "0") == "0":
        refuse_unreadable(out)
        index = read_index(out)
        print(f"{out}: {index.count:,} images; name it as paths.{task.data} in the cluster file")
        print(index.notice, end="\n" * bool(index.notice), file=sys.stderr)
    return 0


def encode_faults(args: argparse.Namespace) -> list[str]:
    latent = [name for name, data in DATASETS.items() if data.latent]
    checks = {"data": one_of(latent), "vae": one_of(ENCODERS), "shard": within(1)}
    given = {name: getattr(args, name) for name in checks}
    found = [f"--{name} {value} {fault}" for name, value in given.items() if (fault := checks[name](value))]
    if args.out is None:
        found.append("--out DIR is missing: where shall they go?")
    if not args.images.exists():
        found.append(f"there is nothing at {args.images}")
    return found


def verify(folder: Path) -> int:
    """Reads every byte of the latents."""
    from tqdm import tqdm

    from harness.data.latents import Latents

    index = read_index(folder)
    files = [*index.shards, index.labels]
    with tqdm(total=sum(part["bytes"] for part in files), unit="B", unit_scale=True, file=sys.stderr) as bar:
        bad = [*wrong_sizes(folder, index), *damaged(folder, index, bar.update)]
    for line in bad:
        print(line, file=sys.stderr)
    if bad:
        return 1
    Latents(index.data, folder)  # shapes, labels, and the count
    print(f"{folder}: {len(files)} files are whole: {index.count:,} images of {index.data}")
    return 0


def reference(args: argparse.Namespace) -> int:
    from harness import features
    from harness.distributed import place
    from harness.score import make_reference

    with place() as here:
        network = features.load(args.extractor, args.inception, str(here.device), args.inception is not None)
        count = make_reference(args.images, args.out, network, here)
        if here.leads:
            print(f"{args.out}: statistics of {count} images by {network.name}")
    return 0


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def writable(store: Store) -> None:
    """Raises OSError now rather than after an hour of training."""
    store.root.mkdir(parents=True, exist_ok=True)
    if not os.access(store.root, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(store.root))
