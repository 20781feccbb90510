"""Files that appear whole or not at all, JSON lines that survive a torn end, and locks. No torch."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from harness.base.errors import UserError

BLOCK = 1 << 24  # bytes hashed at a time


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A path to write beside; what was written takes the place of `path` at the end, or nothing does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        error.filename = str(path)  # a full disk names no file of its own
        raise
    finally:
        beside.unlink(missing_ok=True)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    text = json.dumps(value, indent=1, allow_nan=False)
    with atomic_write(path) as beside:
        beside.write_text(text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        ValueError: the file is no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is not JSON ({error}): move it away and run the same command again"
        ) from None
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no JSON object: move it away and run the same command again")
    return value


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines at the end of a file, on the disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The whole lines of a file of JSON lines, and what is to be said of the others: a kill can tear a line."""
    lines, said = [], []
    for number, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if isinstance(line, dict):  # the end of a torn line may be a number
            lines.append(line)
        else:
            said.append(f"{path}:{number}: torn line skipped")
    return lines, said


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says: seen without reading the tensors."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                return False
            header = json.loads(file.read(length))
        ends = [
            entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"
        ]
        return path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def claim(path: Path, wanted: bool = True, patience: float = 0.1) -> Iterator[bool]:
    """Whether this process now holds `path`, after `patience` seconds at most; the kernel lets go when it ends."""
    if not wanted:  # the other ranks leave it to rank 0
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        deadline = (
            time.monotonic() + patience
        )  # never 0: whoever asks is_claimed() holds it for an instant too
        while not (mine := lock(file)) and time.monotonic() < deadline:
            time.sleep(0.02)
        yield mine


def lock(file: IO[str]) -> bool:
    """Whether the kernel gave this process the file for itself; it knows of other machines on a shared file system."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_claimed(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("w") as file:
        return not lock(file)


def sha256(path: Path, progress: Callable[[int], object] = int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
