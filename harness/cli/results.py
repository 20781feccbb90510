"""`harness collect`, `report`, `predict`: from records to tables, figures, laws. No torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.base.text import aligned
from harness.cli.verb import RESULTS, Verb, add_json, add_sweep, cluster_from
from harness.study.store import Store
from harness.study.sweep_file import load_sweep


def table_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results",
        type=Path,
        default=RESULTS,
        help="where collect wrote the tables (default: results)",
    )
    parser.add_argument("--protocol", help="the protocol's id, where a table holds several")


def collect_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder (default: results)")


def collect(args: argparse.Namespace) -> int:
    from harness.study.collect import collect as gather

    sweep = load_sweep(args.sweep)
    path, count, warnings = gather(sweep, Store(Path(cluster_from(args).store)), args.out)
    for line in warnings:
        print(line, file=sys.stderr)
    print(f"{path}: {count} values")
    return 0


COLLECT = Verb(
    "collect",
    "Records → results/<sweep>.csv, with its log and samples beside.",
    "digits",
    collect_options,
    collect,
)


def report_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser, nargs="+")
    parser.add_argument("--out", type=Path, help="folder (default: results/report/<study>)")
    table_options(parser)


def report(args: argparse.Namespace) -> int:
    from harness.cli.report import report as write
    from harness.cli.report import summary, table

    path = write(args.sweep, cluster_from(args), args.results, args.out, args.protocol)
    print(*[summary(table(study, args.results), args.protocol) for study in args.sweep], sep="\n\n")
    print(f"\nthe report: {path}")
    return 0


REPORT = Verb(
    "report",
    "Figures (PDF, PNG, SVG, CSV), tables (CSV, LaTeX), one HTML page; of several: side by side.",
    "digits",
    report_options,
    report,
)


def predict_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument("--model", required=True, help="such as DiT-XL/2")
    add_json(parser)
    table_options(parser)


def predict(args: argparse.Namespace) -> int:
    from harness.cli.report import predict as fitted

    rows = fitted(args.sweep, args.results, args.model, args.protocol)
    print(json.dumps(rows, indent=1) if args.json else predict_text(rows))
    return 0


PREDICT = Verb(
    "predict",
    "The score of one model from all the others, by two laws.",
    "peebles2023 --model DiT-XL/2",
    predict_options,
    predict,
)


def predict_text(rows: Sequence[dict[str, Any]]) -> str:
    """Prediction, interval and truth of each law."""
    head = ("law", "prediction", "95 % interval", "truth", "error", "formula")
    lines = [
        (
            r["law"],
            f"{r['prediction']:.2f}",
            f"{r['low']:.2f} … {r['high']:.2f}",
            f"{r['truth']:.2f}" if r["truth"] == r["truth"] else "not measured",
            f"{r['error']:+.1%}" if r["truth"] == r["truth"] else "",
            r["formula"],
        )
        for r in rows
    ]
    first = rows[0]
    title = f"{first['metric']} of {first['model']} from {first['n']} other models"
    return f"{title}\n{aligned(head, lines)}"
