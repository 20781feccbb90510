"""The origin of a number: commit, versions, device, date."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib import metadata

import torch

from harness.base.commit import commit

# Dense bf16 operations a second, by the vendor's data sheets.
PEAKS = {"A100": 312e12, "H100": 989e12, "H200": 989e12}
PACKAGES = ("torch", "diffusers", "torch-fidelity", "numpy")


def device_name(device: torch.device) -> str:
    """The device's own name, without its number."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def peak_speed(device: torch.device) -> float | None:
    """Operations a second by the device's data sheet, where it is known."""
    name = device_name(device)
    return next((peak for chip, peak in PEAKS.items() if chip in name), None)


def provenance(device: torch.device, rows: Mapping[str, str]) -> dict[str, object]:
    """What every record and log states of its origin; rows: digests of the user's own files."""
    return {
        "commit": commit(),
        "versions": {package: metadata.version(package) for package in PACKAGES} | dict(rows),
        "device": device_name(device),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
