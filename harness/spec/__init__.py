"""What is wanted: Run, Protocol, Validation and Sweep, their ids, and grid(). No torch."""

from __future__ import annotations

from harness.spec.own_rows import use_rows
from harness.spec.protocol import DECODERS, ENCODERS, LABELS, Protocol
from harness.spec.run import PARAMETRIZATIONS, Run
from harness.spec.sweep import Sweep, grid
from harness.spec.validation import BINS, AnyProtocol, Validation, read_protocol

__all__ = [
    "BINS",
    "DECODERS",
    "ENCODERS",
    "LABELS",
    "PARAMETRIZATIONS",
    "AnyProtocol",
    "Protocol",
    "Run",
    "Sweep",
    "Validation",
    "grid",
    "read_protocol",
    "use_rows",
]
