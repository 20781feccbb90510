"""Processes of this machine, and waiting for what they do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def runs(pid: int, program: str) -> bool:
    """Whether that process runs; a zombie does not."""
    try:
        _, rest = Path(f"/proc/{pid}/stat").read_text().split("(", 1)
    except OSError:
        return False
    return rest.startswith(program[:15]) and not rest.rsplit(")", 1)[1].lstrip().startswith("Z")


def end(pid: int, program: str, how: int = signal.SIGTERM) -> None:
    if not runs(pid, program):
        return
    os.kill(pid, how)
    deadline = time.monotonic() + 20
    while runs(pid, program):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def until(check: Callable[[], object], seconds: float = 120) -> None:
    """Waits until the check is true; an error of a command is no yet."""
    deadline = time.monotonic() + seconds
    while True:
        said = ""
        try:
            if check():
                return
        except RuntimeError as error:
            said = str(error)
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s in vain {said}")
        time.sleep(0.1)
