"""A verb of the command line, and the options that several verbs share. No torch."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from harness.study.cluster import Cluster, read_cluster
from harness.study.store import Store

RESULTS = Path("results")


class Verb(NamedTuple):
    """A verb: its options stand beside what it does."""

    name: str
    about: str
    example: str  # its words after the verb
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]  # returns the exit status


def add_sweep(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    help = "a name in sweeps/, or a path to a .py file"
    parser.add_argument("sweep", metavar="SWEEP", nargs=nargs, help=help)
    add_cluster(parser)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default="local", help="local, debug or a TOML file (default: local)"
    )
    parser.add_argument("--store", help="the folder of runs (default: the cluster's, else ./store)")


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for scripts")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="auto, cpu or cuda (default: auto)")


def add_dirty(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dirty",
        action="store_true",
        help="on Slurm: run the code as it is, not as it is committed",
    )


def cluster_from(args: argparse.Namespace) -> Cluster:
    """The cluster, with command-line flags applied."""
    cluster = read_cluster(args.cluster)
    flags = {
        name: value
        for name in ("store", "workers", "device")
        if (value := getattr(args, name, None)) is not None
    }
    return dataclasses.replace(cluster, **flags)


def require_writable(store: Store) -> None:
    """Raises OSError now rather than after an hour of training."""
    store.root.mkdir(parents=True, exist_ok=True)
    if not os.access(store.root, os.W_OK):
        raise PermissionError(errno.EACCES, "is not writable", str(store.root))
