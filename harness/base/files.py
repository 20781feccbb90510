"""Files that appear whole or not at all, and JSON files with checksums. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

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


def sha256(path: Path, progress: Callable[[int], object] = int) -> str:
    digest = hashlib.sha256()
    with naming(path), path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
            progress(len(block))
    return digest.hexdigest()
