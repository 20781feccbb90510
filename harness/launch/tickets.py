"""What the launcher and its executors exchange: work, jobs, outages. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.base.errors import UserError

Work = Callable[[], object]  # what a job does; it is pickled
Line = dict[str, Any]  # of the ledger


class SchedulerUnavailable(UserError):
    """The scheduler does not answer, or refuses to."""


class Handle(NamedTuple):
    """A submitted job."""

    job: str
    log: Path  # what its first process writes to stderr


@dataclass(frozen=True)
class Ticket:
    """A job as its scheduler knows it."""

    executor: str
    launch: str  # the name of the folder it was submitted from
    job: str
    state: str
    reason: str
    node: str = ""
    seconds: int = 0  # since its last start
    ended: bool = False
