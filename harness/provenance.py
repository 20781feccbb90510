"""Where a number comes from: commit, versions, device, date."""

from __future__ import annotations

import datetime
import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = ("torch", "diffusers", "torch-fidelity", "numpy")


@functools.cache
def commit() -> str:
    """The commit of this code, with "+dirty" where the tree differs from it; $HARNESS_COMMIT where it is a snapshot."""
    if "HARNESS_COMMIT" in os.environ:
        return os.environ["HARNESS_COMMIT"]
    git = ("git", "-C", str(Path(__file__).parent))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+dirty" if dirty.strip() else "")


def device_name(device: torch.device) -> str:
    """The device's own name, without its number."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def provenance(device: torch.device) -> dict[str, object]:
    """What every record and every log says of its making."""
    return {
        "commit": commit(),
        "versions": {package: metadata.version(package) for package in PACKAGES},
        "device": device_name(device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
