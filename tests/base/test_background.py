"""A call beside the caller: one at a time, and no error of it is lost."""

from __future__ import annotations

import threading

import pytest

from harness.base.background import Background


def fails() -> None:
    raise OSError(28, "No space left on device", "file")


def test_calls_run_beside_the_caller_one_after_another() -> None:
    begun, go, done = threading.Event(), threading.Event(), list[int]()

    def first() -> None:
        begun.set()
        assert go.wait(60)
        done.append(1)

    with Background() as beside:
        beside.start(first)
        assert begun.wait(60) and not done, "the caller goes on"
        beside.check()
        go.set()
        beside.start(lambda: done.append(2))
    assert done == [1, 2], "leaving waits"


def use(step: str) -> None:
    with Background() as beside:
        beside.start(fails)
        while step == "look":
            beside.check()
        if step == "wait":
            beside.wait()
        if step == "start":
            beside.start(lambda: None)


@pytest.mark.parametrize("step", ["look", "wait", "start", "leave"])
def test_an_error_is_raised_by_whatever_the_caller_does_next(step: str) -> None:
    with pytest.raises(OSError, match="No space"):
        use(step)


def interrupted(go: threading.Event) -> None:
    with Background() as beside:
        beside.start(lambda: (go.wait(60), None)[1])
        raise KeyboardInterrupt


def test_an_interrupt_waits_for_nothing() -> None:
    go = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        interrupted(go)
    assert not go.is_set(), "the call still waits"
    go.set()
