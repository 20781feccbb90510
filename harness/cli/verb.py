"""A verb of the command line with its options beside it, and the options that verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple


class Verb(NamedTuple):
    """A row of the command line: `function` gives the exit status."""

    name: str
    function: Callable[[argparse.Namespace], int]
    add_options: Callable[[argparse.ArgumentParser], None]
    help: str
    example: str  # what follows `harness NAME`

    def add_to(self, verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Adds the verb with its options to `harness`."""
        epilog = f"example: harness {self.name} {self.example}"
        parser = verbs.add_parser(self.name, help=self.help, description=self.help, epilog=epilog)
        parser.set_defaults(function=self.function)
        self.add_options(parser)


def sweep_option(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    about = "a name in sweeps/, or a path to a .py file"
    parser.add_argument("sweep", metavar="SWEEP", nargs=nargs, help=about)


def cluster_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cluster", default="local", help="local, debug or a TOML file (default: local)"
    )
    parser.add_argument("--store", help="the folder of runs (default: the cluster's, else ./store)")


def device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="auto, cpu or cuda (default: auto)")
