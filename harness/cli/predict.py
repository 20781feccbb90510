"""`harness predict`: the score of one model, trained or not, from all others of its study."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from harness.base.errors import UserError
from harness.base.text import aligned
from harness.cli.report import table, table_errors
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_sweep


def model_options(parser: argparse.ArgumentParser) -> None:
    """The model that is predicted: by name, or by its scale."""
    parser.add_argument("--model", help="such as DiT-XL/2; of a model with --gflops any name")
    scale = "of a model that the study does not have"
    parser.add_argument("--gflops", type=float, help=f"forward multiply-adds / 1e9, {scale}")
    parser.add_argument("--params", type=float, help=f"trained parameters, {scale}")
    parser.add_argument("--patch", type=float, help=f"patch size, {scale}")


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    model_options(parser)
    parser.add_argument(
        "--beyond", action="store_true", help="also beyond the scale of the fitted models"
    )
    add_json(parser)
    table_options(parser)


def predict(args: argparse.Namespace) -> int:
    rows = predictions(args)
    print(json.dumps(rows, indent=1) if args.json else text(rows))
    return 0


PREDICT = Verb(
    "predict",
    "The score of one model from all the others of its family, by two laws.",
    "peebles2023 --model DiT-XL/2",
    options,
    predict,
)


@table_errors()
def predictions(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what each law predicts, as rows.

    Raises:
        UserError: the table cannot be read, the model is not known or beyond the fitted ones, or
            too few others are scored.
    """
    from analysis import prediction
    from analysis.grid import axis_label, grid

    scores = table(args.sweep, args.results)
    frame = prediction.predict(
        scores, args.model or "", protocol=args.protocol, scale=scale_of(args), beyond=args.beyond
    )
    rows = grid(scores, protocol=args.protocol)
    frame = frame.assign(
        score=axis_label(rows),
        protocol=rows["protocol"].iloc[0],
        step=int(rows.loc[rows["last"], "step"].max()),
    )
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]


def scale_of(args: argparse.Namespace) -> dict[str, float] | None:
    """Returns the scale given by options, or None where a name says it.

    Raises:
        UserError: neither a name nor Gflops, or numbers that are not above 0.
    """
    given = {
        name: value
        for name, value in (("gflops", args.gflops), ("params", args.params), ("patch", args.patch))
        if value is not None
    }
    wrong = [f"--{name} {value:g}" for name, value in given.items() if not value > 0]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: give numbers above 0")
    if given and "gflops" not in given:
        raise UserError(f"--{' and --'.join(given)} without --gflops, which both laws need: add it")
    if not given and not args.model:
        raise UserError("no model: give --model, or --gflops, --params and --patch of a new one")
    return given or None


def text(rows: Sequence[dict[str, Any]]) -> str:
    """Formats score, protocol and models, then prediction, interval, truth and forms by law."""
    head = ("law", "prediction", "95 % interval", "truth", "error", "formula")
    lines = [
        (
            row["law"],
            f"{row['prediction']:.2f}",
            f"{row['low']:.2f} … {row['high']:.2f}",
            "not measured" if row["truth"] is None else f"{row['truth']:.2f}",
            "" if row["error"] is None else f"{row['error']:+.1%}",
            row["formula"],
        )
        for row in rows
    ]
    first = rows[0]
    title = (
        f"{first['score']} of {first['model']} at step {first['step']:,}, protocol"
        f" {first['protocol']}, from {first['n']} other models"
    )
    forms = [
        f"{row['forms']:g} forms that do as well on the others: {row['forms_low']:.2f} …"
        f" {row['forms_high']:.2f}"
        for row in rows
        if row.get("forms")
    ]
    return "\n".join([title, aligned(head, lines), *forms])
