"""The executor "debug": jobs run in this process, one after another. No torch."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from harness.launch.tickets import Handle, Line, Ticket, Work
from harness.study.cluster import Cluster
from harness.study.store import Store

REMOTE = False
DETACHED = False


def submit(
    jobs: Sequence[Work],
    resources: Sequence[Cluster],
    names: Sequence[str],
    folder: Path,
    code: Path,
) -> list[Handle | None]:
    """Runs every job here. One that fails leaves its error in its log, and the others go on."""
    return [run(job, folder / f"{number}_log.err") for number, job in enumerate(jobs)]


def run(job: Work, log: Path) -> Handle:
    error = ""
    try:
        job()
    except SystemExit as stopped:
        error = str(stopped.code or "")
    except Exception:  # of one task: the others must not end with it
        error = traceback.format_exc()
    log.write_text(error and f"{error}\n")
    print(error, end="\n" * bool(error), file=sys.stderr, flush=True)
    return Handle(f"{log.parent.name}.{log.name.partition('_')[0]}", log)


def query(lines: Collection[Line]) -> list[Ticket]:
    return []


last_known = query


def cancel(tickets: Collection[Ticket]) -> None:
    """Nothing goes on when `submit` has returned."""


def requeue() -> bool:
    return False


@contextlib.contextmanager
def running(store: Store, cluster: Cluster) -> Iterator[float]:
    yield 0.1
