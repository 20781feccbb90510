"""What is wanted: Run, Protocol and Sweep, their ids, and grid(). No torch."""

from __future__ import annotations

from harness.spec.own_rows import use_rows
from harness.spec.protocol import DECODERS, ENCODERS, LABELS, WEIGHTS, Protocol
from harness.spec.run import Run
from harness.spec.sweep import Sweep, grid

__all__ = [
    "DECODERS",
    "ENCODERS",
    "LABELS",
    "WEIGHTS",
    "Protocol",
    "Run",
    "Sweep",
    "grid",
    "use_rows",
]
