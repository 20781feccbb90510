"""This process's place among its ranks, from the environment that torchrun and submitit set; and the stop flag."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Rank:
    """Rank `index` of `world`, working on `device`."""

    index: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes files."""
        return self.index == 0

    def share(self, count: int) -> tuple[int, int]:
        """The contiguous part low … high of `count` items that falls to this rank."""
        return count * self.index // self.world, count * (self.index + 1) // self.world

    def mean(self, x: Tensor) -> Tensor:
        """The mean of x over all ranks."""
        if self.world > 1:
            dist.all_reduce(x)
        return x / self.world

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank."""
        return (
            flag
            if self.world == 1
            else bool(self.mean(torch.tensor(float(flag), device=self.device)).item())
        )

    def gather(self, part: T) -> list[T]:
        """What every rank has, in the order of ranks; [] but on rank 0."""
        if self.world == 1:
            return [part]
        parts: list[Any] | None = [None] * self.world if self.is_main else None
        dist.gather_object(part, parts)
        return parts or []

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def process_group(device: str = "auto") -> Iterator[Rank]:
    """Joins the process group the environment describes, and leaves it at the end; alone without one."""
    world, rank, local = (
        int(os.environ.get(name, default))
        for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    # Where a scheduler shows a task its own GPU only, that one is number 0 whatever the local rank.
    where = (
        torch.device("cuda", local % torch.cuda.device_count())
        if kind == "cuda"
        else torch.device(kind)
    )
    if where.type == "cuda":
        torch.cuda.set_device(where)
    else:
        keep_freed_memory()
    if world > 1:
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield Rank(rank, world, where)
    finally:
        if world > 1:
            dist.destroy_process_group()


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed: else gradients go back to the kernel, and every step pays for their pages again.

    Steps of B/4 and S/8 took 12–20 % less on two cores with the same set through
    MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_.
    """
    trim_threshold, mmap_threshold = -1, -3  # mallopt's numbers
    with contextlib.suppress(AttributeError, OSError):  # another C library has no such call
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the largest it takes


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@dataclass
class Stop:
    """A flag that a signal sets and that all ranks read alike between steps."""

    signals: list[int] = field(default_factory=list)

    def asked(self, rank: Rank) -> bool:
        return rank.any(bool(self.signals))


class Interrupted(KeyboardInterrupt):
    """A signal asked for an end; everything done so far is in the store."""


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """While this lasts, SIGINT, SIGTERM and SIGUSR2 only set the flag; a second SIGINT ends at once."""
    stop = Stop()

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in stop.signals:
            raise KeyboardInterrupt
        stop.signals.append(number)

    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
