"""Prefetching: the next item is made in a thread while the last one is in use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")


def prefetch(items: Iterable[T], device: torch.device) -> Iterator[T]:
    """Yields the items in their order, and makes one more while the caller uses the last.

    An error comes out where its item would have. Closing the generator waits for the item in the
    making. device: the current one of the thread, which CUDA keeps for each thread.
    """
    source, end = iter(items), object()
    use = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
    with ThreadPoolExecutor(1, initializer=use) as thread:
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]  # it is not `end`
