"""The command line of `harness`: its verbs; errors become one line and an exit status."""

from __future__ import annotations

import argparse
import difflib
import io
import os
import re
import select
import signal
import sys
from collections.abc import Sequence

from harness import __version__
from harness.base.errors import UserError, user_errors
from harness.base.spelling import suggestion
from harness.cli.best import BEST
from harness.cli.coord_check import COORD_CHECK
from harness.cli.encode import ENCODE
from harness.cli.exchange import EXPORT, IMPORT
from harness.cli.forecast import FORECAST
from harness.cli.isoflop import ISOFLOP
from harness.cli.jobs import CANCEL, LOGS
from harness.cli.launch import LAUNCH
from harness.cli.laws import LAWS
from harness.cli.listing import LIST
from harness.cli.next_run import NEXT
from harness.cli.plan import PLAN
from harness.cli.predict import PREDICT
from harness.cli.prune import PRUNE
from harness.cli.results import COLLECT, REPORT
from harness.cli.run import BENCH, RUN
from harness.cli.sample import SAMPLE
from harness.cli.score import PARITY, REFERENCE, SCORE
from harness.cli.seeds import SEEDS
from harness.cli.show import SHOW
from harness.cli.status import STATUS
from harness.cli.verb import fold_words
from harness.study.choice import WORD, targets

SWEEP_VERBS = (PLAN, BENCH, RUN, LAUNCH, CANCEL, LOGS, STATUS, COLLECT, REPORT)
TABLE_VERBS = (PREDICT, LAWS, FORECAST, SEEDS, NEXT, BEST, ISOFLOP, COORD_CHECK)
STORE_VERBS = (LIST, SHOW, PRUNE, IMPORT, EXPORT)
IMAGE_VERBS = (SAMPLE, SCORE, PARITY, ENCODE, REFERENCE)
VERBS = (*SWEEP_VERBS, *TABLE_VERBS, *STORE_VERBS, *IMAGE_VERBS)
# What people type for a verb of another name.
GUESSES = {
    **dict.fromkeys(("ls", "runs", "sweeps"), "list"),
    **dict.fromkeys(("info", "describe", "inspect"), "show"),
    **dict.fromkeys(("compare", "plot", "html"), "report"),
    **dict.fromkeys(("gather", "csv"), "collect"),
    **dict.fromkeys(("du", "gc", "clean", "rm", "delete"), "prune"),
    **dict.fromkeys(("resume", "train", "continue"), "run"),
    **dict.fromkeys(("submit", "sbatch"), "launch"),
    **dict.fromkeys(("stop", "kill"), "cancel"),
    **dict.fromkeys(("load", "convert"), "import"),
    **dict.fromkeys(("save", "push", "upload", "publish"), "export"),
    **dict.fromkeys(("doctor", "check", "dry-run"), "plan"),
    **dict.fromkeys(("eval", "evaluate", "fid"), "score"),
    **dict.fromkeys(("fit", "exponents", "scaling"), "laws"),
    **dict.fromkeys(("power", "replicates"), "seeds"),
    **dict.fromkeys(("preregister", "extrapolate"), "forecast"),
    **dict.fromkeys(("ladder", "sizes", "budgets"), "isoflop"),
    "tail": "logs",
    "help": "--help",
}


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
        made.set_defaults(run_verb=verb.run, verb_parser=made)
    return top


def parsed(argv: Sequence[str]) -> argparse.Namespace:
    """The options of a command line.

    Raises:
        SystemExit: it makes no sense: the verb's usage is shown, and what was meant.
    """
    top, names = parser(), [verb.name for verb in VERBS]
    if "_ARGCOMPLETE" in os.environ:  # a shell completes the line: the extra "completion"
        import argcomplete

        argcomplete.autocomplete(top)
    if argv and not argv[0].startswith("-") and argv[0] not in names:
        guess = GUESSES.get(argv[0])
        meant = f"did you mean {guess!r}?" if guess else suggestion(argv[0], names)
        top.error(f"verb {argv[0]!r} is unknown: {meant}")
    args, rest = top.parse_known_args(argv)
    takes = hasattr(args, "words") or hasattr(args, "fields")
    changes = [word for word in rest if takes and WORD.fullmatch(word)]
    if unknown := [word for word in rest if word not in changes]:
        args.verb_parser.error(unknown_text(unknown, args.verb_parser))
    if hasattr(args, "fields"):
        args.fields = [*args.fields, *changes]
    if hasattr(args, "words"):
        strange = fold_words(args, changes)
        if strange and not hasattr(args, "task"):
            args.verb_parser.error(f"{' '.join(strange)}: one SWEEP at a time, then FIELD=VALUE")
        args.task = " ".join(strange)
    return args


def unknown_text(words: Sequence[str], made: argparse.ArgumentParser) -> str:
    """unrecognized arguments: --seed 1: write seed=1 after SWEEP."""
    text = f"unrecognized arguments: {' '.join(words)}"
    name, _, value = words[0].lstrip("-").replace("-", "_").partition("=")
    if field := difflib.get_close_matches(name, targets(), 1, 0.85):
        return f"{text}: write {field[0]}={value or ''.join(words[1:2]) or 'VALUE'} after SWEEP"
    known = re.findall(r"--[a-z][a-z-]+", made.format_help())
    near = difflib.get_close_matches(words[0], known, 1, 0.75)
    return f"{text}: did you mean {near[0]}?" if near else text


def main(argv: Sequence[str] | None = None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII or Latin-1 terminal has no × or →
    args = parsed(sys.argv[1:] if argv is None else argv)
    try:
        with user_errors():
            status = int(args.run_verb(args))
            sys.stdout.flush()
            return status
    except BrokenPipeError:
        if not stdout_is_closed():
            raise
        return 128 + signal.SIGPIPE  # as a program that the signal ended: harness plan | head
    except UserError as error:
        message = str(error)
    except KeyboardInterrupt:
        print(
            "\nharness: stopped; progress is kept: run the same command to continue",
            file=sys.stderr,
        )
        return 130
    print(f"harness: {message}", file=sys.stderr)
    return 1


def stdout_is_closed() -> bool:
    """Whether nobody reads what this process prints; what is left of it is then dropped."""
    ends = select.poll()
    ends.register(sys.stdout.fileno(), 0)  # of errors alone, which are always reported
    if not ends.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True
