"""What the verbs of images do: encode, sample, evaluate, parity, reference; as thin as those of a sweep."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from harness.base.errors import UserError
from harness.base.validation import one_of, refuse, within
from harness.cli.sweep_verbs import settled
from harness.data import DATASETS
from harness.data.index import damaged, read_index, refuse_unreadable, wrong_sizes
from harness.spec import ENCODERS
from harness.study.store import Store
from harness.study.sweep_file import load_sweep


def evaluate(args: argparse.Namespace) -> int:
    from harness.scoring.external import score

    found = score(args.samples, args.reference, args.inception, args.extractor, device=device())
    if args.json:
        print(json.dumps(found, indent=1))
        return 0
    for name, value in found.items():
        print(f"{name:<18}{value:.4f}" if isinstance(value, float) else f"{name:<18}{value}")
    return 0


def sample(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from harness.base.distributed import process_group
    from harness.scoring.evaluate import write_samples
    from harness.study.tasks import Evaluate

    cluster, sweep = settled(args), load_sweep(args.sweep)
    runs = [r for r in sweep.runs if args.run in (r.model, r.id)]
    protocols = [p for p in sweep.protocols if args.protocol in (None, p.name, p.id)]
    if len(runs) != 1 or len(protocols) != 1:
        there = "; ".join(
            ", ".join(part.id for part in parts) for parts in (sweep.runs, sweep.protocols)
        )
        raise UserError(
            f"--run {args.run} --protocol {args.protocol} must name one run and one protocol of: {there}"
        )
    task = Evaluate(runs[0], args.step or sweep.steps[-1], protocols[0], True, "asked for")
    with (
        process_group(cluster.device) as rank,
        tqdm(total=1.0, file=sys.stderr, delay=1, bar_format="{percentage:3.0f}% {desc}") as bar,
    ):

        def progress(news: str, share: float) -> None:
            bar.set_description_str(news)
            bar.update(share - bar.n)

        write_samples(task, Store(Path(cluster.store)), cluster, rank, args.out, progress)
    print(f"{args.out}: {task.protocol.images} images of {task.run.id} at step {task.step}")
    return 0


def parity(args: argparse.Namespace) -> int:
    from harness.scoring.external import parity as compare
    from harness.scoring.external import parity_table

    rows = compare(args.samples, args.reference, args.inception, device())
    print(parity_table(rows))
    return 0 if all(row["within"] for row in rows) else 1


def encode(args: argparse.Namespace) -> int:
    from harness.base.commit import PACKAGE
    from harness.launch.run import with_bar
    from harness.launch.snapshot import snapshot
    from harness.launch.submit import submit
    from harness.study.tasks import Encode

    if args.verify:
        return verify(args.images)
    refuse("encode", encode_faults(args))
    cluster, out = settled(args), args.out.resolve()
    store = Store(Path(cluster.store))
    task = Encode(str(args.images.resolve()), str(out), args.data, args.vae, args.shard)
    if not task.is_done(store) and cluster.executor != "local":
        code = snapshot(store, args.dirty) if cluster.executor == "slurm" else PACKAGE.parent
        tasks, held, _ = submit(task.name, lambda: [task], store, cluster, code, args.retry)
        print(
            f"{len(tasks)} jobs submitted, {len(held & {task.id})} from before; harness logs {task.name} shows it"
        )
        return 0
    if not task.is_done(store):
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
    found = [
        f"--{name} {value} {fault}"
        for name, value in given.items()
        if (fault := checks[name](value))
    ]
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
    with tqdm(
        total=sum(part["bytes"] for part in files), unit="B", unit_scale=True, file=sys.stderr
    ) as bar:
        bad = [*wrong_sizes(folder, index), *damaged(folder, index, bar.update)]
    for line in bad:
        print(line, file=sys.stderr)
    if bad:
        return 1
    Latents(index.data, folder)  # shapes, labels, and the count
    print(f"{folder}: {len(files)} files are whole: {index.count:,} images of {index.data}")
    return 0


def reference(args: argparse.Namespace) -> int:
    from harness.base.distributed import process_group
    from harness.scoring import features
    from harness.scoring.external import make_reference

    with process_group() as rank:
        network = features.load(
            args.extractor, args.inception, str(rank.device), args.inception is not None
        )
        count = make_reference(args.images, args.out, network, rank)
        if rank.is_main:
            print(f"{args.out}: statistics of {count} images by {network.name}")
    return 0


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
