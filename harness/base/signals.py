"""The signals that ask a process to stop. No torch."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


@contextlib.contextmanager
def on_stop(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Within, `handler` is called with each signal that asks for an end.

    Those of a terminal are left alone where they are ignored: SIGHUP by nohup, SIGINT by the & of
    a script.
    """
    of_terminal = (signal.SIGHUP, signal.SIGINT)
    ignored = {n for n in of_terminal if signal.getsignal(n) == signal.SIG_IGN}
    numbers = [n for n in STOPS if n not in ignored]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextlib.contextmanager
def stop_afterwards() -> Iterator[None]:
    """Within, a signal of STOPS is only noted: an import that swallows exceptions cannot lose it.

    Raises:
        KeyboardInterrupt: at the end, where there was one.
    """
    asked: list[int] = []
    with on_stop(lambda number, _: asked.append(number)):
        yield
    if asked:
        raise KeyboardInterrupt


def announce(line: str) -> None:
    """Prints a line to stderr from a signal handler, on rank 0.

    A print there fails where the signal interrupts another print.
    """
    if os.environ.get("RANK", "0") == "0":
        with contextlib.suppress(OSError):  # of a closed terminal
            os.write(2, f"\n{line}\n".encode())


def interrupt(number: int, frame: object) -> None:
    """Ends the process as Ctrl-C does.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt
