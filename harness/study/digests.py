"""Digests of large files, remembered by size and time: a plan reads no gigabyte twice. No torch."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from harness.base.errors import UserError
from harness.base.files import read_json, sha256, write_json
from harness.study.counts import cache

LARGE = 10_000_000  # bytes: what is smaller is read in milliseconds


def remembered_sha256(path: Path) -> str:
    """The SHA-256 of a file, or that of the last time if its size and time are the same.

    For checks before anything starts: what is loaded is read whole.
    """
    found = path.stat()
    if found.st_size < LARGE:
        return sha256(path)
    state = {"path": str(path.resolve()), "size": found.st_size, "time": found.st_mtime_ns}
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    note = cache().parent / "digests" / f"{name}.json"
    try:
        written = read_json(note)
        if {key: written.get(key) for key in state} == state:
            return str(written["digest"])
    except (OSError, UserError, KeyError):  # absent or damaged: the file is read
        pass
    digest = sha256(path)
    with contextlib.suppress(OSError, UserError):  # a folder that takes no notes costs time alone
        write_json(note, state | {"digest": digest})
    return digest
