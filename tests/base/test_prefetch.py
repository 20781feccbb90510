"""What is made ahead of need."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from harness.base.prefetch import prefetch


def test_the_next_item_is_made_before_it_is_asked_for() -> None:
    begun = [threading.Event() for _ in range(3)]

    def items() -> Iterator[int]:
        for i in range(3):
            begun[i].set()
            yield i
        raise ValueError("the last")

    found = prefetch(items(), torch.device("cpu"))
    assert next(found) == 0 and begun[1].wait(10) and not begun[2].is_set()
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ValueError, match="the last"):
        next(found)
    before, early = threading.active_count(), prefetch(items(), torch.device("cpu"))
    assert next(early) == 0
    early.close()  # type: ignore[attr-defined]  # a generator
    assert threading.active_count() == before
