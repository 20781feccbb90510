"""The signals that ask a process to stop. No torch."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


@contextlib.contextmanager
def on_stop(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Within, `handler` is called with each signal that asks for an end.

    SIGHUP, of a closed terminal, is left alone where nohup has it ignored.
    """
    nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    numbers = [n for n in STOPS if not (nohup and n == signal.SIGHUP)]
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


def interrupt(number: int, frame: object) -> None:
    """Ends the process as Ctrl-C does.

    Raises:
        KeyboardInterrupt: always.
    """
    raise KeyboardInterrupt
