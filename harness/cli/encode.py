"""`harness encode`: images → latents, here or as a job; --verify reads every byte."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from harness.base.validation import one_of, refuse, within
from harness.cli.verb import (
    Verb,
    add_cluster,
    add_device,
    add_dirty,
    add_rows,
    cluster_from,
    use_own_rows,
)
from harness.data import DATASETS
from harness.data.checks import damaged_files, refuse_unreadable, wrong_sizes
from harness.data.index import PIXELS, SHARD, read_index
from harness.spec import ENCODERS
from harness.study.store import Store


def encode(args: argparse.Namespace) -> int:
    from harness.base.commit import PACKAGE
    from harness.launch.executors import executor
    from harness.launch.run import run_one
    from harness.launch.snapshot import snapshot
    from harness.launch.submit import submit
    from harness.study.tasks import Encode

    use_own_rows(args)
    if args.verify:
        return verify(args.images)
    args.vae = args.vae or vaes(args.data)[0]
    refuse("encode", encode_problems(args))
    cluster, out = cluster_from(args), args.out.resolve()
    store = Store(Path(cluster.store))
    task = Encode(str(args.images.resolve()), str(out), args.data, args.vae, args.shard)
    if not task.is_done(store) and cluster.executor != "local":
        code = snapshot(store, args.dirty) if executor(cluster).REMOTE else PACKAGE.parent
        done = submit(task.name, lambda: [task], store, cluster, code, args.retry)
        print(
            f"{len(done.submitted)} jobs submitted, {len(done.held)} already queued or running;"
            f" harness logs {task.name} shows it"
        )
        return 0
    if not task.is_done(store):
        run_one(task, store, cluster)
    if os.environ.get("RANK", "0") == "0":
        refuse_unreadable(out)
        index = read_index(out)
        print(f"{out}: {index.count:,} images; name it as paths.{task.data} in the cluster file")
        if index.notice:
            print(index.notice, file=sys.stderr)
    return 0


def encode_problems(args: argparse.Namespace) -> list[str]:
    """Everything that is wrong with the options."""
    encoded = [name for name, data in DATASETS.items() if data.encoded]
    checks = {"data": one_of(encoded), "vae": one_of(vaes(args.data)), "shard": within(1)}
    given = {name: getattr(args, name) for name in checks}
    problems = [
        f"--{name} {value} {fault}"
        for name, value in given.items()
        if (fault := checks[name](value))
    ]
    if args.out is None:
        problems.append("--out DIR is missing: name the folder to write")
    if not args.images.exists():
        problems.append(f"{args.images} does not exist: give a folder or an archive of images")
    return problems


def vaes(data: str) -> list[str]:
    """The VAEs that make latents of a dataset; "none" makes pixels."""
    row = DATASETS.get(data)
    family = row.autoencoder if row else None
    return [name for name, kind in ENCODERS.items() if kind == family] or [PIXELS]


def encode_options(parser: argparse.ArgumentParser) -> None:
    add_cluster(parser)
    add_device(parser)
    parser.add_argument(
        "images",
        type=Path,
        help="a folder of class folders or of images, a tar or zip of one, or a saved dataset",
    )
    parser.add_argument("--out", type=Path, help="the folder of latents")
    parser.add_argument("--data", help="imagenet256 (default), imagenet512", default="imagenet256")
    add_rows(parser)
    parser.add_argument(
        "--vae",
        help="whose encoder: ft-mse (default), ft-ema and original share one; none of pixels",
    )
    parser.add_argument(
        "--shard", type=int, default=SHARD, help=f"images of a file (default: {SHARD:,})"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="checks every byte of IMAGES, a folder of latents",
    )
    add_dirty(parser)
    parser.add_argument(
        "--retry",
        action="store_true",
        help="on Slurm: submits again even after three failures in a row",
    )


def verify(folder: Path) -> int:
    """Reads every byte of the latents; the exit status."""
    from tqdm import tqdm

    from harness.data import open_dataset

    index = read_index(folder)
    files = [*index.shards, index.labels]
    with tqdm(
        total=sum(part["bytes"] for part in files), unit="B", unit_scale=True, file=sys.stderr
    ) as bar:
        bad = [*wrong_sizes(folder, index), *damaged_files(folder, index, bar.update)]
    for line in bad:
        print(line, file=sys.stderr)
    if bad:
        return 1
    open_dataset(index.data, folder)  # shapes, labels, and the count
    print(f"{folder}: {len(files)} files are whole: {index.count:,} images of {index.data}")
    return 0


ENCODE = Verb(
    "encode",
    "Encodes images and their mirror images as latents, in shards; run it again to resume.",
    "imagenet/train --out latents/imagenet256 --data imagenet256",
    encode_options,
    encode,
)
