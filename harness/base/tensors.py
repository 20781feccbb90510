"""Tensors to and from safetensors files, whole or not at all, with the operating system's errors as its own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """
    Raises:
        OSError: the file could not be written; what was at `path` is still there.
    """
    with atomic_write(path) as beside:
        beside.touch()
        mode = (
            beside.stat().st_mode
        )  # as the user's umask has it: safetensors would keep the file from the group
        try:
            save_file(dict(tensors), beside, metadata)
            beside.chmod(mode)
        except SafetensorError as error:  # it tells a full disk in words: "... (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_tensors(path: Path, device: str = "cpu", prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a file whose names begin with `prefix`.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, "pt", device) as file:
            # the file is no dict: it has keys, and cannot be iterated
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(
            f"{path} is damaged ({error}): move it away and run the same command again"
        ) from None
