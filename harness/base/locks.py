"""Locks that the kernel frees when their process ends, on shared file systems too. No torch."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.base.files import naming

LOCK_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC  # a link in a shared folder may lead to any file of ours


@dataclass(frozen=True)
class Claim:
    """A lock that was asked for; the ranks that leave it to rank 0 do not want it themselves."""

    path: Path
    file: IO[bytes] | None
    wanted: bool = True

    def __bool__(self) -> bool:
        return self.file is not None or not self.wanted

    def removed(self) -> bool:
        """Whether somebody removed the file of a lock that is held: another may lock the name."""
        return self.file is not None and not is_at(self.file, self.path)


@contextlib.contextmanager
def claim(path: Path, wanted: bool = True, patience: float = 0.1) -> Iterator[Claim]:
    """Locks `path`. Yields a claim, true where this process has it, `patience` seconds at most.

    The kernel unlocks it when the process ends; the empty or one-line file stays, since removing it
    would let two processes lock two files of one name. It names the holder's host and pid.

    Raises:
        OSError: the file system has no locks, or the file is a link.
    """
    if not wanted:  # the other ranks leave it to rank 0
        yield Claim(path, None, wanted=False)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience
    while (file := locked(path)) is None:
        # Those who only ask is_claimed() hold it for an instant: they do not count.
        if time.monotonic() >= deadline and is_claimed(path):
            break
        time.sleep(0.02)
    try:
        yield Claim(path, file)
    finally:
        if file is not None:
            file.close()


def locked(path: Path) -> IO[bytes] | None:
    """Opens `path` and locks it for this process alone; None where another has it.

    The kernel knows of other machines on a shared file system.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | LOCK_FLAGS, 0o666), "r+b", 0)
    if not (flock(file, fcntl.LOCK_EX, path) and is_at(file, path)):
        file.close()
        return None
    with contextlib.suppress(OSError):  # a full disk: the name is for messages alone
        file.truncate()
        file.write(f"{socket.gethostname()} {os.getpid()}\n".encode())
    return file


def flock(file: IO[bytes], kind: int, path: Path) -> bool:
    """Whether the kernel gave the lock; its errors get the name of the file."""
    try:
        with naming(path):
            fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is still the one of that name: it may have been removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def is_claimed(path: Path) -> bool:
    """Whether a process has locked `path`. Only reads; False of a file that may not be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | LOCK_FLAGS)
    except (FileNotFoundError, PermissionError):
        return False
    with os.fdopen(descriptor, "rb") as file:
        return not flock(file, fcntl.LOCK_SH, path)


def holder(path: Path) -> str:
    """The host and pid of the last holder of the lock; "" where unknown."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | LOCK_FLAGS), "rb") as file:
            return " ".join(file.read(200).decode(errors="replace").split())
    except OSError:
        return ""
