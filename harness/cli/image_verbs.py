"""The verbs about images: encode, sample, score, parity, reference; each with its options."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.text import aligned
from harness.base.validation import one_of, refuse, within
from harness.cli.verb import (
    Verb,
    add_cluster,
    add_device,
    add_dirty,
    add_json,
    add_sweep,
    cluster_from,
)
from harness.data import DATASETS
from harness.data.index import SHARD, damaged, read_index, refuse_unreadable, wrong_sizes
from harness.spec import ENCODERS
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.tasks import Evaluate

PICTURED = 64  # images in a picture


def refuse_absent(*paths: Path | None) -> None:
    """
    Raises:
        UserError: with every path where nothing is.
    """
    refuse(
        "paths",
        [f"there is nothing at {p}: name one that is there" for p in paths if p and not p.exists()],
    )


def score(args: argparse.Namespace) -> int:
    refuse_absent(args.samples, args.reference, args.inception)
    from harness.base.distributed import process_group
    from harness.scoring import external

    with process_group() as rank:
        device = str(rank.device)
        values = external.score(
            args.samples, args.reference, args.inception, args.extractor, device=device
        )
    print(json.dumps(values, indent=1) if args.json else score_text(values))
    return 0


def score_text(values: dict[str, Any]) -> str:
    """A value a line, and then the warnings."""
    lines = [
        (name, f"{value:.4f}" if isinstance(value, float) else str(value))
        for name, value in values.items()
        if name != "warnings"
    ]
    warnings = [f"Warning: {text}" for text in values["warnings"]]
    return "\n".join([aligned(("metric", "value"), lines), *warnings])


def score_options(parser: argparse.ArgumentParser) -> None:
    samples_options(parser)
    extractor_options(parser)
    add_json(parser)


def samples_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        help="an npz with arr_0, uint8 NHWC, or a folder of images",
    )
    parser.add_argument("--reference", type=Path, required=True, help="an npz in ADM's format")


def inception_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inception",
        type=Path,
        metavar="WEIGHTS",
        help="Inception's weights (default: in torch's hub folder)",
    )


def extractor_options(parser: argparse.ArgumentParser) -> None:
    inception_option(parser)
    parser.add_argument(
        "--extractor", default="inception", help="inception (default) or digits-cnn-1"
    )


def sample(args: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from harness.base.distributed import process_group
    from harness.scoring.evaluate import image_batches, write_samples
    from harness.scoring.picture import write_picture

    task, cluster = sampled(args), cluster_from(args)
    store, count = Store(Path(cluster.store)), min(PICTURED, task.protocol.images)
    with (
        process_group(cluster.device) as rank,
        tqdm(total=1.0, file=sys.stderr, delay=1, bar_format="{percentage:3.0f}% {desc}") as bar,
    ):

        def progress(line: str, share: float) -> None:
            bar.set_description_str(line)
            bar.update(share - bar.n)

        if args.png:
            images = torch.cat([*image_batches(task, store, cluster, rank, count, progress)])
            write_picture(args.png, images)
        else:
            count = task.protocol.images
            write_samples(task, store, cluster, rank, args.out, progress)
    print(f"{args.png or args.out}: {count} images of {task.run.id} at step {task.step}")
    return 0


def sampled(args: argparse.Namespace) -> Evaluate:
    """The checkpoint and the protocol that the options name.

    Raises:
        UserError: they name several, or none.
    """
    if args.out and args.out.suffix == ".png":
        raise UserError(f"--out {args.out} is an npz: --png {args.out} writes a picture")
    sweep = load_sweep(args.sweep)
    protocols = [p for p in sweep.protocols if args.protocol in (None, p.name, p.id)]
    found = []
    if len(sweep.runs) != 1:
        ids = ", ".join(run.id for run in sweep.runs)
        found.append(f"--run must name one of the {len(sweep.runs)} runs {ids}")
    if len(protocols) != 1:
        ids = ", ".join(p.id for p in sweep.protocols) or "none: the sweep has no protocol"
        found.append(f"--protocol {args.protocol or 'ID'} must name one of {ids}")
    refuse("sample", found)
    step = sweep.steps[-1] if args.step is None else args.step
    return Evaluate(sweep.runs[0], step, protocols[0], True, "asked for")


def sample_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    add_device(parser)
    parser.add_argument("--step", type=int, help="default: the sweep's last")
    parser.add_argument("--protocol", help="a protocol's name or id, where the sweep has several")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="NPZ", help="all images, for ADM's evaluator")
    what.add_argument("--png", type=Path, help=f"a picture of the first {PICTURED}")


def parity(args: argparse.Namespace) -> int:
    refuse_absent(args.samples, args.reference, args.inception)
    from harness.base.distributed import process_group
    from harness.scoring import external

    with process_group() as rank:
        rows = external.parity(args.samples, args.reference, args.inception, str(rank.device))
    print(external.parity_table(rows))
    return 0 if all(row["within"] for row in rows) else 1


def parity_options(parser: argparse.ArgumentParser) -> None:
    samples_options(parser)
    inception_option(parser)


def encode(args: argparse.Namespace) -> int:
    from harness.base.commit import PACKAGE
    from harness.launch.executors import executor
    from harness.launch.run import run_one
    from harness.launch.snapshot import snapshot
    from harness.launch.submit import submit
    from harness.study.tasks import Encode

    if args.verify:
        return verify(args.images)
    refuse("encode", encode_problems(args))
    cluster, out = cluster_from(args), args.out.resolve()
    store = Store(Path(cluster.store))
    task = Encode(str(args.images.resolve()), str(out), args.data, args.vae, args.shard)
    if not task.is_done(store) and cluster.executor != "local":
        code = snapshot(store, args.dirty) if executor(cluster).REMOTE else PACKAGE.parent
        done = submit(task.name, lambda: [task], store, cluster, code, args.retry)
        print(
            f"{len(done.submitted)} jobs submitted, {len(done.held)} from before;"
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
    latent = [name for name, data in DATASETS.items() if data.latent]
    checks = {"data": one_of(latent), "vae": one_of(ENCODERS), "shard": within(1)}
    given = {name: getattr(args, name) for name in checks}
    problems = [
        f"--{name} {value} {fault}"
        for name, value in given.items()
        if (fault := checks[name](value))
    ]
    if args.out is None:
        problems.append("--out DIR is missing: name the folder to write")
    if not args.images.exists():
        problems.append(f"there is nothing at {args.images}: name a folder or an archive of images")
    return problems


def encode_options(parser: argparse.ArgumentParser) -> None:
    add_cluster(parser)
    add_device(parser)
    parser.add_argument(
        "images",
        type=Path,
        help="a folder of class folders, a tar or zip of one, or a saved dataset",
    )
    parser.add_argument("--out", type=Path, help="the folder of latents")
    parser.add_argument("--data", help="imagenet256 (default), imagenet512", default="imagenet256")
    parser.add_argument(
        "--vae",
        default="ft-mse",
        help="whose encoder: ft-mse (default), ft-ema and original share one",
    )
    parser.add_argument(
        "--shard", type=int, default=SHARD, help=f"images of a file (default: {SHARD:,})"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="IMAGES is a folder of latents: reads every byte of it",
    )
    add_dirty(parser)
    parser.add_argument(
        "--retry", action="store_true", help="on Slurm: also after three failures in a row"
    )


def verify(folder: Path) -> int:
    """Reads every byte of the latents; the exit status."""
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
    refuse_absent(args.images, args.inception)
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


def reference_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=Path, required=True, help="a folder of images, or an npz with arr_0"
    )
    parser.add_argument("--out", type=Path, required=True, help="the npz to write, in ADM's format")
    extractor_options(parser)


VERBS = (
    Verb(
        "sample",
        "A protocol's images, as an npz for ADM's evaluator or as a picture.",
        "digits --run mini-DiT-XL/2 --png samples.png",
        sample_options,
        sample,
    ),
    Verb(
        "score",
        "Scores images from anywhere.",
        "--samples samples.npz --reference VIRTUAL_imagenet256.npz",
        score_options,
        score,
    ),
    Verb(
        "parity",
        "Our numbers of ADM's published samples beside ADM's own.",
        "--samples admnet.npz --reference ref.npz",
        parity_options,
        parity,
    ),
    Verb(
        "encode",
        "Images → latents of both mirror images, in shards; run it again to go on.",
        "imagenet/train --out latents/imagenet256 --data imagenet256",
        encode_options,
        encode,
    ),
    Verb(
        "reference",
        "Reference statistics of a folder of images or an npz.",
        "--images train/ --out imagenet256.npz",
        reference_options,
        reference,
    ),
)
