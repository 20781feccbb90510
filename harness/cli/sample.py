"""`harness sample`: a protocol's images of a trained run, as an npz or as a picture."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.base.errors import UserError
from harness.base.validation import refuse
from harness.cli.verb import Verb, add_device, add_sweep, cluster_from
from harness.study.checks import network_problems
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.tasks import Evaluate

PICTURED = 64  # images in a picture


def sample(args: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from harness.base.distributed import process_group
    from harness.scoring.evaluate import image_batches, write_samples
    from harness.scoring.picture import write_picture

    task, cluster = sampled(args), cluster_from(args)
    store, count = Store(Path(cluster.store)), min(PICTURED, task.sampling.images)
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
            count = task.sampling.images
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
    protocols = [p for p in sweep.sampling if args.protocol in (None, p.name, p.id)]
    found = []
    if len(sweep.runs) != 1:
        ids = ", ".join(run.id for run in sweep.runs)
        found.append(f"--run must name one of the {len(sweep.runs)} runs {ids}")
    if len(protocols) != 1:
        ids = ", ".join(p.id for p in sweep.sampling) or "none: the sweep has no protocol"
        found.append(f"--protocol {args.protocol or 'ID'} must name one of {ids}")
    refuse("sample", found or network_problems(sweep.runs))
    run = sweep.runs[0]
    step = sweep.steps_of(run)[-1] if args.step is None else args.step
    return Evaluate(run, step, protocols[0], True, "asked for")


def sample_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    add_device(parser)
    parser.add_argument("--step", type=int, help="default: the sweep's last")
    parser.add_argument("--protocol", help="a protocol's name or id, where the sweep has several")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, metavar="NPZ", help="all images, for ADM's evaluator")
    what.add_argument("--png", type=Path, help=f"a picture of the first {PICTURED}")


SAMPLE = Verb(
    "sample",
    "Samples a protocol's images, as an npz for ADM's evaluator or as a picture.",
    "digits --run mini-DiT-XL/2 --png samples.png",
    sample_options,
    sample,
)
