"""The command line of `harness`: its verbs; errors become one line and an exit status."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence

from harness import __version__
from harness.base.errors import UserError, user_errors
from harness.cli import image_verbs
from harness.cli.launch import CANCEL, LAUNCH, LOGS
from harness.cli.plan import PLAN
from harness.cli.predict import PREDICT
from harness.cli.prune import PRUNE
from harness.cli.results import COLLECT, REPORT
from harness.cli.run import BENCH, RUN
from harness.cli.status import STATUS

SWEEP_VERBS = (PLAN, BENCH, RUN, LAUNCH, CANCEL, LOGS, STATUS, COLLECT, REPORT, PREDICT, PRUNE)
VERBS = (*SWEEP_VERBS, *image_verbs.VERBS)


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
