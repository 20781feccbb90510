"""The command line of `harness`: verbs and their options; errors become one line and an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import __version__
from harness.base.errors import UserError, user_errors
from harness.cli import image_verbs
from harness.cli import sweep_verbs as verbs
from harness.cli.sweep_verbs import RESULTS
from harness.data.index import SHARD


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        "harness",
        description="Scaling studies of diffusion transformers: plan, train, score, collect, report.",
        epilog="SWEEP is a name in sweeps/ or a path to a .py file. Begin with: harness plan digits",
    )
    top.add_argument("--version", action="version", version=__version__)
    subparsers = top.add_subparsers(required=True, metavar="VERB")

    def verb(function: Any, about: str, example: str) -> argparse.ArgumentParser:
        name = function.__name__
        made = subparsers.add_parser(
            name, help=about, description=about, epilog=f"example: harness {name} {example}"
        )
        made.set_defaults(function=function)
        return made

    def sweep_verb(function: Any, about: str, example: str) -> argparse.ArgumentParser:
        made = verb(function, about, example)
        made.add_argument(
            "sweep",
            metavar="SWEEP",
            nargs="+" if function is verbs.report else None,
            help="a name in sweeps/, or a path to a .py file",
        )
        return with_cluster(made)

    def with_cluster(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
        made.add_argument(
            "--cluster", default="local", help="local, debug or a TOML file (default: local)"
        )
        made.add_argument(
            "--store", help="the folder of runs (default: the cluster's, else ./store)"
        )
        return made

    made = sweep_verb(
        verbs.plan,
        "What is missing and why; parameters, Gflops, hours, disk. Starts nothing.",
        "dit_grid",
    )
    made.add_argument("--json", action="store_true", help="for scripts")
    made.add_argument(
        "--on", metavar="DEVICE", default="", help="a measured device, by part of its name"
    )

    made = verb(
        verbs.bench,
        "How fast this device does a sweep's work; plan counts with it.",
        "digits --seconds 1",
    )
    made.add_argument(
        "sweep", metavar="SWEEP", nargs="?", default="dit_grid", help="default: dit_grid"
    )
    made.add_argument(
        "--models", nargs="+", metavar="MODEL", help="only these of its models, such as DiT-XL/2"
    )
    made.add_argument(
        "--seconds", type=float, default=5.0, help="that each work is timed (default: 5)"
    )
    made.add_argument("--device", help="auto, cpu or cuda (default: auto)")
    made.add_argument("--json", action="store_true", help="for scripts")
    with_cluster(made)

    made = sweep_verb(
        verbs.run,
        "Does every missing task here, with a progress bar; run it again to go on.",
        "digits --workers 2",
    )
    made.add_argument(
        "--workers",
        type=int,
        help="tasks side by side, one CPU thread each (default: the cluster's, else 1)",
    )
    made.add_argument("--device", help="auto, cpu or cuda (default: auto)")

    made = sweep_verb(
        verbs.launch,
        "Submits what is missing and not live through submitit.",
        "digits --cluster local --follow",
    )
    made.add_argument(
        "--follow",
        action="store_true",
        help="until nothing is missing: scores each checkpoint as it appears",
    )
    made.add_argument(
        "--detach",
        action="store_true",
        help="follows in a small job of its own: this command ends, you can log out",
    )
    made.add_argument(
        "--retry", action="store_true", help="also tasks that failed three times in a row"
    )
    made.add_argument(
        "--dirty",
        action="store_true",
        help="on Slurm: run the code as it is, not as it is committed",
    )
    made.add_argument("--workers", type=int, help="jobs at a time on this machine")

    made = sweep_verb(
        verbs.cancel, "Ends this sweep's jobs, after asking; what they did is kept.", "digits --yes"
    )
    made.add_argument(
        "task", metavar="TASK", nargs="?", default="", help="only tasks whose name begins so"
    )
    made.add_argument("--yes", action="store_true", help="does not ask")

    made = with_cluster(
        verb(verbs.logs, "The log of a task's latest job.", "mini-DiT-S-8_ --follow")
    )
    made.add_argument(
        "task", metavar="TASK", help="a task's name or its beginning, such as a run's id"
    )
    made.add_argument("--follow", action="store_true", help="goes on until the job has ended")

    made = sweep_verb(
        verbs.status, "Expected × found, who is at work, and what failed.", "digits --watch 5"
    )
    made.add_argument("--json", action="store_true", help="for scripts")
    made.add_argument(
        "--watch",
        type=float,
        metavar="SECONDS",
        help="again every so many seconds, until all is done",
    )

    made = sweep_verb(
        verbs.collect, "Records → results/<sweep>.csv, with its log and samples beside.", "digits"
    )
    made.add_argument("--out", type=Path, default=RESULTS, help="folder (default: results)")

    made = sweep_verb(
        verbs.report,
        "Figures (PDF, PNG, SVG, CSV) and one HTML page; of two sweeps: their comparison.",
        "digits",
    )
    made.add_argument("--out", type=Path, help="folder (default: results/report/<sweep>)")
    table_options(made)

    made = sweep_verb(
        verbs.predict,
        "The score of one model from all the others, by two laws.",
        "peebles2023 --model DiT-XL/2",
    )
    made.add_argument("--model", required=True, help="such as DiT-XL/2")
    made.add_argument("--json", action="store_true", help="for scripts")
    table_options(made)

    made = sweep_verb(
        image_verbs.sample,
        "A protocol's images as an npz for ADM's evaluator.",
        "digits --run mini-DiT-XL/2 --out s.npz",
    )
    made.add_argument("--run", required=True, help="a model of the sweep, or a run's id")
    made.add_argument("--step", type=int, help="default: the sweep's last")
    made.add_argument("--protocol", help="a protocol's name or id, where the sweep has several")
    made.add_argument("--out", type=Path, required=True, help="the npz to write")
    made.add_argument("--device", help="auto, cpu or cuda (default: auto)")

    made = verb(
        image_verbs.evaluate,
        "Scores images from anywhere.",
        "--samples samples.npz --reference VIRTUAL_imagenet256.npz",
    )
    scoring_options(made, samples=True)
    made.add_argument("--json", action="store_true", help="for scripts")

    made = verb(
        image_verbs.parity,
        "Our numbers of ADM's published samples beside ADM's own.",
        "--samples admnet.npz --reference ref.npz",
    )
    scoring_options(made, samples=True)

    made = with_cluster(
        verb(
            image_verbs.encode,
            "Images → latents of both mirror images, in shards; run it again to go on.",
            "imagenet/train --out latents/imagenet256 --data imagenet256",
        )
    )
    made.add_argument(
        "images",
        type=Path,
        help="a folder of class folders, a tar or zip of one, or a saved dataset",
    )
    made.add_argument("--out", type=Path, help="the folder of latents")
    made.add_argument("--data", help="imagenet256 (default), imagenet512", default="imagenet256")
    made.add_argument(
        "--vae",
        default="ft-mse",
        help="whose encoder: ft-mse (default), ft-ema and original share one",
    )
    made.add_argument(
        "--shard", type=int, default=SHARD, help=f"images of a file (default: {SHARD:,})"
    )
    made.add_argument(
        "--verify",
        action="store_true",
        help="IMAGES is a folder of latents: reads every byte of it",
    )
    made.add_argument("--device", help="auto, cpu or cuda (default: auto)")
    made.add_argument(
        "--dirty",
        action="store_true",
        help="on Slurm: run the code as it is, not as it is committed",
    )
    made.add_argument(
        "--retry", action="store_true", help="on Slurm: also after three failures in a row"
    )

    made = verb(
        image_verbs.reference,
        "Reference statistics of a folder of images or an npz.",
        "--images train/ --out imagenet256.npz",
    )
    made.add_argument(
        "--images", type=Path, required=True, help="a folder of images, or an npz with arr_0"
    )
    made.add_argument("--out", type=Path, required=True, help="the npz to write, in ADM's format")
    scoring_options(made, samples=False)
    return top


def table_options(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="where collect wrote the tables (default: results)",
    )
    made.add_argument("--protocol", help="the protocol's id, where a table holds several")


def scoring_options(made: argparse.ArgumentParser, samples: bool) -> None:
    if samples:
        made.add_argument(
            "--samples",
            type=Path,
            required=True,
            help="an npz with arr_0, uint8 NHWC, or a folder of images",
        )
        made.add_argument("--reference", type=Path, required=True, help="an npz in ADM's format")
    made.add_argument(
        "--inception",
        type=Path,
        metavar="WEIGHTS",
        help="Inception's weights (default: in torch's hub folder)",
    )
    made.add_argument(
        "--extractor", default="inception", help="inception (default) or digits-cnn-1"
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        with user_errors():
            return int(args.function(args))
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
