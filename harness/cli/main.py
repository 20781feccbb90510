"""The command line of `harness`: its verbs; errors become one line and an exit status."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from harness import __version__
from harness.base.errors import UserError, user_errors
from harness.cli import image_verbs
from harness.cli.launch import CANCEL, LAUNCH, LOGS
from harness.cli.plan import PLAN
from harness.cli.prune import PRUNE
from harness.cli.results import COLLECT, PREDICT, REPORT
from harness.cli.run import BENCH, RUN
from harness.cli.status import STATUS
from harness.cli.verb import Verb, add_cluster, add_device, add_dirty, add_json, add_sweep
from harness.data.index import SHARD


def sample_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument("--run", required=True, help="a model of the sweep, or a run's id")
    parser.add_argument("--step", type=int, help="default: the sweep's last")
    parser.add_argument("--protocol", help="a protocol's name or id, where the sweep has several")
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    add_device(parser)


def evaluate_options(parser: argparse.ArgumentParser) -> None:
    parity_options(parser)
    add_json(parser)


def parity_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        help="an npz with arr_0, uint8 NHWC, or a folder of images",
    )
    parser.add_argument("--reference", type=Path, required=True, help="an npz in ADM's format")
    extractor_options(parser)


def encode_options(parser: argparse.ArgumentParser) -> None:
    add_cluster(parser)
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
    add_device(parser)
    add_dirty(parser)
    parser.add_argument(
        "--retry", action="store_true", help="on Slurm: also after three failures in a row"
    )


def reference_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images", type=Path, required=True, help="a folder of images, or an npz with arr_0"
    )
    parser.add_argument("--out", type=Path, required=True, help="the npz to write, in ADM's format")
    extractor_options(parser)


def extractor_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--inception",
        type=Path,
        metavar="WEIGHTS",
        help="Inception's weights (default: in torch's hub folder)",
    )
    parser.add_argument(
        "--extractor", default="inception", help="inception (default) or digits-cnn-1"
    )


IMAGE_VERBS = (
    Verb(
        "sample",
        "A protocol's images as an npz for ADM's evaluator.",
        "digits --run mini-DiT-XL/2 --out s.npz",
        sample_options,
        image_verbs.sample,
    ),
    Verb(
        "evaluate",
        "Scores images from anywhere.",
        "--samples samples.npz --reference VIRTUAL_imagenet256.npz",
        evaluate_options,
        image_verbs.evaluate,
    ),
    Verb(
        "parity",
        "Our numbers of ADM's published samples beside ADM's own.",
        "--samples admnet.npz --reference ref.npz",
        parity_options,
        image_verbs.parity,
    ),
    Verb(
        "encode",
        "Images → latents of both mirror images, in shards; run it again to go on.",
        "imagenet/train --out latents/imagenet256 --data imagenet256",
        encode_options,
        image_verbs.encode,
    ),
    Verb(
        "reference",
        "Reference statistics of a folder of images or an npz.",
        "--images train/ --out imagenet256.npz",
        reference_options,
        image_verbs.reference,
    ),
)
SWEEP_VERBS = (PLAN, BENCH, RUN, LAUNCH, CANCEL, LOGS, STATUS, COLLECT, REPORT, PREDICT, PRUNE)
VERBS = (*SWEEP_VERBS, *IMAGE_VERBS)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "harness",
        description="Scaling studies of diffusion transformers:"
        " plan, train, score, collect, report.",
        epilog="SWEEP is a name in sweeps/ or a path to a .py file."
        " Begin with: harness plan digits",
    )
    top.add_argument("--version", action="version", version=__version__)
    subparsers = top.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        epilog = f"example: harness {verb.name} {verb.example}"
        made = subparsers.add_parser(
            verb.name, help=verb.about, description=verb.about, epilog=epilog
        )
        verb.add_options(made)
        made.set_defaults(run_verb=verb.run)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII or Latin-1 terminal has no × or →
    args = parser().parse_args(argv)
    try:
        with user_errors():
            return int(args.run_verb(args))
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print(
            "\nharness: stopped; what was done is kept: run the same command to go on",
            file=sys.stderr,
        )
        return 130
    print(f"harness: {message}", file=sys.stderr)
    return 1
