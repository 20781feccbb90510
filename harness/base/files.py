"""Files that appear whole or not at all, JSON that shows its damage, and locks. No torch."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.base.checksums import (
    decode_lines,
    decode_object,
    encode_lines,
    encode_object,
    is_whole_text,
)
from harness.base.errors import UserError

BLOCK = 1 << 24  # bytes hashed at a time
# What a header that is JSON and no header of safetensors raises.
CRAFTED = (LookupError, TypeError, AttributeError, RecursionError)
LOCK_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC  # a link in a shared folder may lead to any file of ours


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives errors of the disk the name of the file, which a failing read or write lacks."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a path to write beside `path`, which takes its place at the end or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two hosts may share a file system and have equal pids, and others may write into the folder.
    writer = f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
    beside = path.with_name(f".{path.name}.{writer}")
    try:
        with naming(path):
            os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666))
            yield beside
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def remove_leftovers(folder: Path, pattern: str = ".*") -> None:
    """Removes the temporary files that killed writers left in `folder`; an empty folder goes too.

    Only for the holder of the lock over these files: those of a writer at work match as well.
    """
    for path in folder.glob(pattern):
        if not path.is_dir() and not path.name.startswith(".nfs"):  # the file system's own
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not empty, or not there
        folder.rmdir()


def write_json(path: Path, value: Mapping[str, Any], checksum: bool = False) -> None:
    """Writes a JSON object; with a checksum, no flipped digit becomes another number."""
    data = encode_object(value, checksum)
    with atomic_write(path) as beside:
        beside.write_bytes(data)


def read_bytes(path: Path) -> bytes:
    with naming(path):
        return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object, and checks its checksum where it has one.

    Raises:
        UserError: the file is damaged, or no JSON object.
    """
    data = read_bytes(path)
    try:
        return decode_object(data)
    except ValueError as error:
        raise UserError(f"{path} {error}: move it away and run the same command again") from None


def is_intact(path: Path) -> bool:
    """Whether a JSON file is there and as it was written, without parsing it."""
    try:
        return is_whole_text(read_bytes(path))
    except FileNotFoundError:
        return False


def append_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Appends JSON lines with their checksums; on the disk before it returns.

    One file may have several writers. What a killed one left without an end stays a line of its
    own.
    """
    if not (data := encode_lines(lines)):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab+", buffering=0) as file:
        if not ends_in_newline(file):
            data = b"\n" + data
        while data:  # a single write, unless the disk is full: others' lines do not mix with it
            data = data[file.write(data) :]
        os.fsync(file.fileno())


def ends_in_newline(file: io.FileIO) -> bool:
    """Whether a file is empty or ends in a newline."""
    if not file.seek(0, os.SEEK_END):
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Reads JSON lines. Returns (lines, warnings); a killed writer may leave a torn line.

    A file is created by its first line, so an empty one has lost some.
    """
    lines, damaged = decode_lines(data := read_bytes(path))
    lost = [] if data else [f"{path} is empty: its lines are lost"]
    return lines, lost + [f"{path}:{span}: damaged line skipped" for span in damaged]


def is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says; the tensors are not read."""
    return whole_header(path) is not None


def rows_in(path: Path, name: str) -> int:
    """Rows of a tensor in a safetensors file; 0 where the file is not whole or has none."""
    try:
        return int((whole_header(path) or {})[name]["shape"][0])
    except (ValueError, *CRAFTED):
        return 0


def whole_header(path: Path) -> dict[str, Any] | None:
    """What a safetensors file says of its tensors; None where it is not as long as that.

    safetensors' own safe_open is no faster, and imports numpy.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size:
                return None
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        ends = [entry["data_offsets"][1] for entry in tensors.values()]
        return tensors if size == 8 + length + max(ends, default=0) else None
    except (OSError, struct.error, ValueError, *CRAFTED):
        return None


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


def sha256(path: Path, progress: Callable[[int], object] = int) -> str:
    digest = hashlib.sha256()
    with naming(path), path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
