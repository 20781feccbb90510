"""`harness collect`, `report`: from records to tables, figures, one page. No torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.cli.verb import RESULTS, Verb, add_sweep, cluster_from
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
    "Writes results/<sweep>.csv from the records, with its log and samples.",
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
    "Draws figures (PDF, PNG, SVG, CSV), tables (CSV, LaTeX), one HTML page; several side by side.",
    "digits",
    report_options,
    report,
)
