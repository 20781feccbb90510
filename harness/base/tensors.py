"""Tensors in safetensors files: written whole or not at all, with a digest of each."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write

# safetensors writes several entries of metadata in any order: one keeps equal files equal.
ENTRY = "harness"
THREADS = 4  # that hash at a time: SHA-256 runs at 1 GB/s a core without its own instructions


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes the tensors and the digest of each; `metadata` is what read_metadata returns.

    Raises:
        OSError: the file could not be written; what was at `path` is still there.
    """
    host = {name: x.detach().cpu().contiguous() for name, x in tensors.items()}
    note = {"metadata": dict(metadata or {}), "sha256": digests(host)}
    with atomic_write(path) as beside:
        beside.touch()
        mode = beside.stat().st_mode  # the umask's; safetensors would keep the file from the group
        try:
            save_file(host, beside, {ENTRY: json.dumps(note, sort_keys=True)})
            beside.chmod(mode)
        except SafetensorError as error:  # a full disk is words there: "... (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_tensors(path: Path, device: str = "cpu", prefix: str = "") -> dict[str, Tensor]:
    """Loads the tensors whose names begin with `prefix`, and checks their digests.

    A file written before there were digests is taken as it is.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with safe_open(path, "pt", "cpu") as file:
            names, note = list(file.keys()), read_note(path, file)
            found = {name: file.get_tensor(name) for name in names if name.startswith(prefix)}
    except SafetensorError as error:
        raise damaged(path, str(error)) from None
    if (written := note["sha256"]) is not None:
        if written.keys() != set(names):
            raise damaged(path, "it holds other tensors than were written")
        for name, digest in digests(found).items():
            if digest != written[name]:
                raise damaged(path, f"{name} has another SHA-256 than was written")
    return {name: x.to(device) for name, x in found.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata given to save_tensors.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with safe_open(path, "pt", "cpu") as file:
            return read_note(path, file)["metadata"]
    except SafetensorError as error:
        raise damaged(path, str(error)) from None


def read_note(path: Path, file: Any) -> dict[str, Any]:
    """What save_tensors wrote into the header: metadata, and digests or None for an older file.

    Raises:
        UserError: the note is damaged.
    """
    entries = file.metadata() or {}
    if ENTRY not in entries:
        return {"metadata": entries, "sha256": None}
    try:
        note = json.loads(entries[ENTRY])
    except json.JSONDecodeError as error:
        raise damaged(path, str(error)) from None
    parts = [note.get(key) for key in ("metadata", "sha256")] if isinstance(note, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise damaged(path, "its header has no digests")
    return note


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path} is damaged ({reason}): move it away and run the same command again")


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The digest of each tensor, some of them hashed at a time."""
    with ThreadPoolExecutor(THREADS) as threads:
        return dict(zip(tensors, threads.map(digest, tensors.values()), strict=True))


def digest(x: Tensor) -> str:
    """SHA-256 of dtype, shape and bytes of a tensor on the CPU."""
    found = hashlib.sha256(f"{x.dtype} {tuple(x.shape)}".encode())
    found.update(x.contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
