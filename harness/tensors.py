"""Tensors to and from safetensors files, whole or not at all, with the operating system's errors as its own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.store import replacing


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """
    Raises:
        OSError: the file could not be written; what was at `path` is still there.
    """
    with replacing(path) as beside:
        try:
            save_file(dict(tensors), beside, metadata)
        except SafetensorError as error:  # it tells a full disk in words: "... (os error 28)"
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load_tensors(path: Path, device: str = "cpu", names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """All tensors of a file, or those named.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, "pt", device) as file:
            return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): move it away and run the same command again") from None
