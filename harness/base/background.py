"""One call at a time in a background thread; its error is raised at the next check."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType


class Background:
    """Runs calls one after another in a thread; leaving it waits for the last one.

    A second Ctrl-C does not wait: the thread ends with the process, as a kill would end it.
    """

    def __init__(self) -> None:
        self.running: Future[None] | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        if kind is not KeyboardInterrupt:
            self.wait()

    def start(self, call: Callable[[], None]) -> None:
        """Starts a call after the one before; raises the error of that one."""
        self.wait()
        self.running = future = Future[None]()
        threading.Thread(target=keep_outcome, args=(call, future), daemon=True).start()

    def check(self) -> None:
        """Raises the error of a call that failed; waits for nothing."""
        if self.running is not None and self.running.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the call, if any; raises its error, once."""
        running, self.running = self.running, None
        if running is not None:
            running.result()


def keep_outcome(call: Callable[[], None], future: Future[None]) -> None:
    """Calls, and keeps that it ended or with which error: a thread's own would go to stderr."""
    try:
        call()
        future.set_result(None)
    except BaseException as error:
        future.set_exception(error)
