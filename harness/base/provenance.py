"""Where a number comes from: commit, versions, device, date."""

from __future__ import annotations

import datetime
import platform
from importlib import metadata

import torch

from harness.base.commit import commit

PACKAGES = ("torch", "diffusers", "torch-fidelity", "numpy")


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
