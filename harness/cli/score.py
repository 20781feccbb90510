"""`harness score`, `parity` and `reference`: images from anywhere against others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.base.text import aligned
from harness.base.validation import one_of, refuse
from harness.cli.verb import Verb, add_json, add_rows, use_own_rows
from harness.data import DATASETS, Data
from harness.extractors import EXTRACTORS
from harness.metrics import value_names


def refuse_absent(*paths: Path | None) -> None:
    """Refuses paths that do not exist, all at once.

    Raises:
        UserError: with every path where nothing is.
    """
    refuse(
        "paths",
        [f"{p} does not exist: check the path" for p in paths if p and not p.exists()],
    )


def score(args: argparse.Namespace) -> int:
    refuse_absent(args.samples, args.reference, args.weights)
    use_own_rows(args)
    from harness.base.distributed import process_group
    from harness.scoring import external

    with process_group() as rank:
        values = external.score(
            args.samples,
            args.reference,
            args.weights,
            args.extractor,
            args.metrics,
            device=str(rank.device),
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
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=(),
        metavar="METRIC",
        help="values to compute (default: those of a record that take no minutes); of"
        f" {', '.join(value_names())}",
    )
    add_json(parser)


def samples_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples",
        type=Path,
        required=True,
        help="an npz with arr_0, uint8 NHWC, or a folder of images",
    )
    parser.add_argument("--reference", type=Path, required=True, help="an npz in ADM's format")


def weights_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights",
        "--inception",
        type=Path,
        metavar="FILE",
        help="the extractor's weights (default: in torch's hub folder)",
    )


def extractor_options(parser: argparse.ArgumentParser) -> None:
    weights_option(parser)
    parser.add_argument(
        "--extractor",
        default="inception",
        help=f"one of {', '.join(EXTRACTORS)} (default: inception), or of your file of rows",
    )
    add_rows(parser)


def parity(args: argparse.Namespace) -> int:
    refuse_absent(args.samples, args.reference, args.weights)
    from harness.base.distributed import process_group
    from harness.scoring import external

    with process_group() as rank:
        rows = external.parity(args.samples, args.reference, args.weights, str(rank.device))
    print(external.parity_table(rows))
    return 0 if all(row["within"] for row in rows) else 1


def parity_options(parser: argparse.ArgumentParser) -> None:
    samples_options(parser)
    weights_option(parser)


def reference(args: argparse.Namespace) -> int:
    refuse_absent(args.images, args.weights)
    use_own_rows(args)
    from harness.base.distributed import process_group
    from harness.encoding.images import squares
    from harness.scoring import features
    from harness.scoring.external import BATCH, make_reference, open_images

    row = dataset(args)
    with process_group() as rank:
        network = features.load(
            args.extractor, args.weights, str(rank.device), args.weights is not None
        )
        if row:
            count, batches = squares(args.images, row.pixels, network.channels, BATCH)
        else:
            count, _, batches = open_images(args.images, network.channels)
        make_reference(count, batches, args.out, network, rank)
        if rank.is_main:
            print(f"{args.out}: statistics of {count} images by {network.name}")
    return 0


def dataset(args: argparse.Namespace) -> Data | None:
    """The row of --data, whose images are squares of the same side.

    Raises:
        UserError: there is no such row.
    """
    if args.data is None:
        return None
    fault = one_of(DATASETS)(args.data)
    refuse("reference", [f"--data {args.data} {fault}"] if fault else [])
    return DATASETS[args.data]


def reference_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="a folder of images, or an npz with arr_0; with --data all that encode reads",
    )
    parser.add_argument("--out", type=Path, required=True, help="the npz to write, in ADM's format")
    parser.add_argument("--data", help="cuts images to the squares of this dataset, as encode does")
    extractor_options(parser)


SCORE = Verb(
    "score",
    "Scores images from anywhere.",
    "--samples samples.npz --reference VIRTUAL_imagenet256.npz",
    score_options,
    score,
)
PARITY = Verb(
    "parity",
    "Scores ADM's published samples, beside ADM's own numbers.",
    "--samples admnet.npz --reference ref.npz",
    parity_options,
    parity,
)
REFERENCE = Verb(
    "reference",
    "Computes reference statistics of a folder of images or an npz.",
    "--images train/ --out imagenet256.npz",
    reference_options,
    reference,
)
