"""Work done ahead: the next item is made in a thread while the last one is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")


def prefetch(items: Iterable[T], device: torch.device) -> Iterator[T]:
    """The same items in the same order, one of them made before it is asked for, `device` being the current one.

    An error comes out where its item would have. Whoever leaves early waits for the item in the
    making.
    """
    source, end = iter(items), object()
    use = (
        partial(torch.cuda.set_device, device) if device.type == "cuda" else None
    )  # every thread has its own
    with ThreadPoolExecutor(1, initializer=use) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]  # it is no `end`
