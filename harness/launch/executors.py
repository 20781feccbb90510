"""Executors: where jobs run. Another scheduler is one module like slurm.py, and a row below."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from harness.launch import debug, local, slurm
from harness.launch.tickets import Handle, Line, Ticket, Work
from harness.study.cluster import Cluster
from harness.study.store import Store


class Executor(Protocol):
    """A scheduler, as the launcher uses it.

    REMOTE: jobs run on other machines, from a copy of the code, and need a shared store;
    DETACHED: jobs go on after this process has ended.
    """

    REMOTE: bool
    DETACHED: bool

    def submit(
        self,
        jobs: Sequence[Work],
        resources: Sequence[Cluster],
        names: Sequence[str],
        folder: Path,
        code: Path,
    ) -> list[Handle | None]:
        """Submits jobs that write below `folder` and import the package in `code`.

        Returns a handle for each job; None where a limit on jobs leaves it for a later round.

        Raises:
            UserError: the scheduler refuses all of them, and no file is left; or one for another
                reason than a limit on jobs, and none stays submitted.
        """

    def query(self, lines: Collection[Line]) -> list[Ticket]:
        """The jobs of these lines and of unknown launches, also ended ones not yet forgotten.

        Raises:
            SchedulerUnavailable: it does not answer.
        """

    def last_known(self, lines: Collection[Line]) -> list[Ticket]:
        """The same from a slower source: for a scheduler that is away, and for jobs it forgot.

        Raises:
            SchedulerUnavailable: there is none.
        """

    def cancel(self, tickets: Collection[Ticket]) -> None:
        """Ends these jobs. They save what they did.

        Raises:
            SchedulerUnavailable: it does not answer, or refuses.
        """

    def requeue(self) -> bool:
        """Within a job: puts it back into the queue, and returns whether it is there."""

    def running(self, store: Store, cluster: Cluster) -> AbstractContextManager[float]:
        """Within a job: sets up its ranks. Yields the seconds to wait for an old writer's lock."""


EXECUTORS: Mapping[str, Executor] = {"slurm": slurm, "local": local, "debug": debug}


def executor(cluster: Cluster) -> Executor:
    return EXECUTORS[cluster.executor]
