"""Strange files by hypothesis: values, damaged bytes, and the trial of a reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trials import LONG, TRACEBACK, Result, Tally

Draw = Callable[[Any], Any]

# What a file may hold in the place of a value.
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["cpu", "DiT-XL/2", "local", "~nosuchuser/x", "\x00", "../..", "é"]),
)
VALUES = st.recursive(
    SCALARS, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=6), x, max_size=3)
)


def fuzzed(
    name: str,
    few: int,
    many: int,
    inputs: st.SearchStrategy[Any],
    read: Callable[[Any], Result],
) -> None:
    """Reads `few` inputs, `many` in the long trials: each verb succeeds or fails in one line."""
    tally = Tally(f"fuzz {name}")

    @settings(
        max_examples=many if LONG else few,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # no shrinking: all faults are counted
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def trial(value: Any) -> None:
        result = read(value)
        tally.add(end_of(result), repr(value)[:120], [result])

    trial()
    tally.check()


def end_of(result: Result) -> str:
    if result.status is None or TRACEBACK in result.text:
        return "traceback"
    if result.status == 0:
        return "harmless"
    return "reported" if result.is_one_line else "not one line"


@st.composite
def spoiled(draw: Draw, data: bytes) -> bytes:
    """A whole file with a few bytes changed, cut, or with a piece of itself in another place."""
    way = draw(st.sampled_from(["flip", "cut", "insert", "none"]))
    at = draw(st.integers(0, len(data) - 1))
    if way == "cut":
        return data[:at]
    if way == "insert":
        return data[:at] + draw(st.binary(max_size=16)) + data[at + draw(st.integers(0, 16)) :]
    if way == "flip":
        places = st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255))
        spots = draw(st.lists(places, min_size=1, max_size=8))
        changed = bytearray(data)
        for i, byte in spots:
            changed[i] = byte
        return bytes(changed)
    return data
