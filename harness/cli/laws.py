"""`harness laws`: laws of size, tokens and images, of FID by loss, of the best learning rate."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from harness.base.text import aligned
from harness.cli.report import table, table_errors
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_sweep

if TYPE_CHECKING:
    import pandas as pd


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--coverage",
        type=int,
        default=0,
        metavar="DRAWS",
        help="also plants the law so often at this study's runs: do the intervals hold it?",
    )
    add_json(parser)
    table_options(parser)


def laws(args: argparse.Namespace) -> int:
    rows, missing = sections(args)
    print(json.dumps(rows, indent=1, ensure_ascii=False) if args.json else text(rows, missing))
    return 0


LAWS = Verb(
    "laws",
    "Laws of size, tokens and images, of FID by loss, of the best learning rate, with intervals.",
    "digits_seeds",
    options,
    laws,
)


@table_errors()
def sections(args: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """Returns (rows of all laws, why not what is missing).

    Raises:
        UserError: the table cannot be read, or no law can be fitted.
    """
    from analysis.joint_bootstrap import DRAWS
    from analysis.joint_rows import joint_rows, loss_rows
    from analysis.learning_rate_rows import rate_rows
    from analysis.rows import attempt
    from analysis.table import TableError

    scores, missing = table(args.sweep, args.results), list[str]()
    made = {
        "Joint law": lambda: joint_rows(scores, DRAWS, args.protocol),
        "Coverage": lambda: covered(scores, args.protocol, args.coverage),
        "FID by loss": lambda: loss_rows(scores, args.protocol),
        "Learning rate": lambda: rate_rows(scores, args.protocol),
    }
    if args.coverage <= 0:
        del made["Coverage"]
    if scores["lr"].nunique() < 2:
        del made["Learning rate"]
    rows = [row for name, make in made.items() for row in attempt(name, make, missing) or []]
    if not rows:
        raise TableError(" ".join(missing).rstrip("."))
    missing += other_protocols(scores, args.protocol)
    clean = [
        {name: None if value != value else value for name, value in row.items()} for row in rows
    ]
    return clean, missing


def other_protocols(scores: pd.DataFrame, protocol: str | None) -> list[str]:
    """States how many scores of FID are in no law, being of another protocol."""
    from analysis.left_out import left_out

    found = left_out(scores, protocol=protocol)
    others = found[found["reason"].str.startswith("protocol is not")]
    return [
        f"In no law: {own['scores'].sum()} scores under {name}, another protocol."
        for name, own in others.groupby("instead")
    ]


def covered(scores: pd.DataFrame, protocol: str | None, draws: int) -> list[dict[str, Any]]:
    """Returns the coverage of the intervals of FID's law, by family."""
    from analysis.joint import fit, points_of
    from analysis.joint_coverage import coverage_rows

    laws = {str(p.rows["family"].iloc[0]): fit(p) for p in points_of(scores, protocol=protocol)}
    return coverage_rows(laws, draws)


def subjects(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Names what each note is of: without the score where it is of several scores, or of all."""
    named: dict[str, list[str]] = {}
    for row in rows:
        named.setdefault(row["note"], []).append(row["statistic"])
    scores = {name.rpartition(": ")[0] for names in named.values() for name in names} - {""}
    found = {}
    for note, names in named.items():
        own = {name.rpartition(": ")[0] for name in names}
        plain = len(own) > 1 or len(scores) == 1
        texts = [name.rpartition(": ")[2] if plain else name for name in names]
        found[note] = ", ".join(dict.fromkeys(texts))
    return found


def text(rows: list[dict[str, Any]], missing: list[str]) -> str:
    """Formats each number with its interval, then the notes that are not of one line."""
    head = ("statistic", "estimate", "95 % interval", "n")
    lines = [(r["statistic"], r["estimate"], r["interval"], str(r["n"])) for r in rows]
    notes = [f"{subject}: {note}" for note, subject in subjects(rows).items() if note]
    methods = list(dict.fromkeys(row["method"] for row in rows if row["interval"]))
    used = f"Intervals: {'; '.join(methods)}; n counts runs." if methods else ""
    return "\n".join([aligned(head, lines), *filter(None, [used]), *notes, *missing])
