"""A verb of the command line, and the options that several verbs share. No torch."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from harness.base.errors import UserError
from harness.spec import Sweep, use_rows
from harness.study.choice import WORD
from harness.study.cluster import Cluster, read_cluster
from harness.study.registry import accept_rows, changed_rows
from harness.study.store import Store
from harness.study.sweep_file import sweep_names

RESULTS = Path("results")


class Verb(NamedTuple):
    """A verb: its options stand beside what it does."""

    name: str
    about: str
    example: str  # its words after the verb
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit status


def add_sweep(
    parser: argparse.ArgumentParser, nargs: str | None = None, default: str | None = None
) -> None:
    """SWEEP with the words that change it; several sweeps have theirs after each."""
    help = "a name in sweeps/, or a path to a .py file"
    sweep = parser.add_argument("sweep", metavar="SWEEP", nargs=nargs, default=default, help=help)
    sweep.completer = lambda **_: sweep_names()  # type: ignore[attr-defined]
    parser.add_argument(
        "words",
        metavar="FIELD=VALUE",
        nargs="*",
        default=[],
        help="such as lr=1e-3 seed=0,1,2: every run with each of these values",
    )
    add_selection(parser)
    add_cluster(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", nargs="+", metavar="MODEL", default=[], help="only these of its models"
    )
    parser.add_argument(
        "--run",
        nargs="+",
        metavar="RUN",
        dest="runs",
        default=[],
        help="only these of its runs: models, ids or their beginnings",
    )


def fold_words(args: argparse.Namespace, more: Sequence[str]) -> list[str]:
    """Makes of each sweep and what changes it one line, `digits lr=1e-3`; returns strange words.

    With that line every verb names the same runs.
    """
    many = isinstance(args.sweep, list)
    named = {key: getattr(args, key) for key in ("models", "runs")}
    swallowed = [word for names in named.values() for word in names if WORD.fullmatch(word)]
    names = {key: [n for n in found if n not in swallowed] for key, found in named.items()}
    kept = [f"{key}={','.join(found)}" for key, found in names.items() if found]
    words = [*(args.sweep if many else [args.sweep]), *args.words, *swallowed, *more]
    lines, strange = list[str](), list[str]()
    for word in words:
        if lines and WORD.fullmatch(word):
            lines[-1] += f" {word}"
        elif many or not lines:
            lines.append(word)
        else:
            strange.append(word)
    lines = [" ".join([line, *kept]) for line in lines]
    args.sweep = lines if many else lines[0]
    return strange


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default="local", help="local, debug or a TOML file (default: local)"
    )
    parser.add_argument("--store", help="the folder of runs (default: the cluster's, else ./store)")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for scripts")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="auto, cpu or cuda (default: auto)")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="prints the plan, starts nothing")


def add_dirty(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dirty",
        action="store_true",
        help="on Slurm: runs the working tree as it is, not the commit",
    )


def add_metric(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", default="fid", help="(default: fid)")


def add_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on", metavar="DEVICE", default="", help="a measured device, by part of its name"
    )


def add_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="your own file of rows, which adds to the tables"
    )


def use_own_rows(args: argparse.Namespace) -> None:
    """Adds the rows of the file that --rows names."""
    if args.rows:
        use_rows(args.rows)


def add_changed_rows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--changed-rows",
        action="store_true",
        help="continues runs that started with another version of your file of rows",
    )


def accept_changed_rows(sweep: Sweep, store: Store) -> None:
    """Records today's files of rows in the runs that started with other versions of them."""
    for run in sweep.runs:
        if changed_rows(run, store):
            accept_rows(run, store)


def cluster_from(args: argparse.Namespace) -> Cluster:
    """The cluster, with command-line flags applied."""
    cluster = read_cluster(args.cluster)
    flags = {
        name: value
        for name in ("store", "workers", "device")
        if (value := getattr(args, name, None)) is not None
    }
    return dataclasses.replace(cluster, **flags)


def confirmed(question: str) -> bool:
    """Asks on the terminal; whether the answer is yes.

    Raises:
        UserError: there is no terminal to ask on.
    """
    try:
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        raise UserError(f"{question} There is no terminal to ask on: use --yes") from None


def require_writable(store: Store) -> None:
    """Raises OSError now rather than after an hour of training."""
    store.root.mkdir(parents=True, exist_ok=True)
    if not os.access(store.root, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(store.root))
