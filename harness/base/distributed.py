"""This process's rank, from the environment that torchrun and submitit set; and the stop flag."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from harness.base.errors import EnvironmentProblem
from harness.base.signals import announce, on_stop

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
        if self.world == 1:
            return flag
        return bool(self.mean(torch.tensor(float(flag), device=self.device)).item())

    def gather(self, part: T) -> list[T]:
        """The parts of all ranks in their order, on rank 0; [] on the others."""
        if self.world == 1:
            return [part]
        parts: list[Any] | None = [None] * self.world if self.is_main else None
        dist.gather_object(part, parts)
        return parts or []

    def first(self, value: T) -> T:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def wait(self) -> None:
        """Returns when every rank has called it."""
        if self.world > 1:
            dist.barrier()


# What gloo and NCCL say of a peer that is gone.
LOST_PEER = ("closed by peer", "reset by peer", "remote process exited", "Broken pipe")


@contextlib.contextmanager
def process_group(
    device: str = "auto", gpus: int = 0, hang_minutes: float | None = None
) -> Iterator[Rank]:
    """Joins the process group that the environment describes, and leaves it at the end.

    Without RANK and WORLD_SIZE this process is rank 0 of 1.

    Args:
        device: auto, cpu or cuda.
        gpus: how many the node was asked for; with any, "auto" does not fall back on the CPU.
        hang_minutes: how long a collective waits for the other ranks; torch's default if None.

    Raises:
        EnvironmentProblem: GPUs are wanted, and torch sees none.
        SystemExit: another rank ended; its own log says why.
    """
    world, rank, local = (
        int(os.environ.get(name, default))
        for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    where = choose_device(device, gpus, local)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    else:
        keep_freed_memory()
    if world > 1:
        timeout = datetime.timedelta(minutes=hang_minutes) if hang_minutes else None
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=timeout)
    try:
        yield Rank(rank, world, where)
    except RuntimeError as error:
        if world == 1 or not any(words in str(error) for words in LOST_PEER):
            raise
        raise SystemExit(
            f"rank {rank} of {world}: another rank ended: see its log, run the same command again"
        ) from None
    finally:
        if world > 1:
            dist.destroy_process_group()


def choose_device(device: str, gpus: int, local_rank: int) -> torch.device:
    """The device of a local rank.

    Raises:
        EnvironmentProblem: GPUs are wanted, and torch sees none.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cpu" or (device == "auto" and not gpus and not count):
        return torch.device("cpu")
    if not count:
        wanted = f'device = "{device}"' + f" and gpus_per_node = {gpus}" * bool(gpus)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise EnvironmentProblem(
            f"{socket.gethostname()}: {wanted}, but torch sees no GPU (CUDA_VISIBLE_DEVICES"
            f" {visible!r}, torch built for CUDA {torch.version.cuda}): check that node's driver"
            ' and `setup`, or set device = "cpu"'
        )
    # Where a scheduler shows a task its own GPU only, that one is number 0 whatever the local rank.
    # Workers of one machine are given a local rank too, so that each takes a GPU of its own.
    return torch.device("cuda", local_rank % count)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next allocation.

    Otherwise gradients go back to the kernel, and every step pays for their pages again. Steps
    of B/4 and S/8 took 12–20 % less on two cores with the same set through
    MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_.
    """
    trim_threshold, mmap_threshold = -1, -3  # mallopt's numbers
    with contextlib.suppress(AttributeError, OSError):  # another C library has no such call
        libc = ctypes.CDLL(None)
        libc.mallopt(trim_threshold, 2**31 - 1)
        libc.mallopt(mmap_threshold, 32 * 2**20)  # the largest it takes


@dataclass
class Stop:
    """A flag that a signal sets, or a lock's end. All ranks read it alike between steps."""

    signals: list[int] = field(default_factory=list)
    unlocked: Callable[[], bool] = bool  # whether the lock of the task was removed

    def asked(self, rank: Rank) -> bool:
        """Whether any rank was signalled, or rank 0 lost its lock."""
        return rank.any(bool(self.signals) or self.unlocked())


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; everything done so far is in the store."""


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Within, a signal of STOPS only sets the flag; a second SIGINT ends the process at once.

    Raises:
        Interrupted: at the end, where a signal came and no task was left to end by it.
    """
    stop = Stop()

    def note(number: int, frame: object) -> None:
        if number == signal.SIGINT and number in stop.signals:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            announce("stopping: saving what is in progress; Ctrl-C again discards it")
        stop.signals.append(number)

    with on_stop(note):
        yield stop
    if stop.signals:
        raise Interrupted(f"stopped by {signal.Signals(stop.signals[0]).name}")
