"""Faults of a disk, one after another in one process with the shim loaded; a JSON line for each."""

from __future__ import annotations

import ctypes
import errno
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from trials import Result, has_traceback, table, temporary_files, verb

CALLS = {"write": 1, "fsync": 2, "rename": 3, "open": 4, "unlink": 5, "read": 6}
FAIL, SHORT, SLOW = range(3)


def main(sweep: Path, folder: Path, whole: Path, trials: list[dict[str, Any]]) -> None:
    shim = ctypes.CDLL(None)
    torch.set_num_threads(1)
    for i, trial in enumerate(trials):
        store = folder / f"{i}"
        print(json.dumps(trial | tried(sweep, store, whole, shim, **trial)), flush=True)
        shutil.rmtree(store, ignore_errors=True)


def tried(
    sweep: Path, store: Path, whole: Path, shim: Any, call: str, nth: int, fault: str, mode: int
) -> dict[str, Any]:
    """A study under one fault, what it left, and the same study run again without the fault."""
    number = getattr(errno, fault, 0) if mode == FAIL else 300  # microseconds
    shim.chaos_set(bytes(store / "store"), CALLS[call], nth, number, mode)
    first = run(sweep, store)
    hits = shim.chaos_hits()
    shim.chaos_set(b"", 0, 0, 0, 0)
    left = temporary_files(store)
    again = run(sweep, store).status if first.status else 0
    verb("collect", sweep, "--store", store / "store", "--out", store)
    return {
        "hits": hits,
        "status": first.status,
        "lines": refusals(first),
        "traceback": has_traceback([first], store),
        "strays": temporary_files(store) if call == "unlink" else left,
        "again": again,
        "same": outcome(store) == outcome(whole),
    }


def run(sweep: Path, folder: Path) -> Result:
    return verb("run", sweep, "--store", folder / "store")


def refusals(result: Result) -> list[str]:
    """The lines for a person."""
    return [line for line in result.err.splitlines() if line.startswith(("failed: ", "harness: "))]


def outcome(folder: Path) -> list[Any]:
    """Scores, log, weights and the states to continue from."""
    weights = [
        path.read_bytes()
        for path in sorted(folder.glob("store/runs/*/checkpoints/*/*.safetensors"))
    ]
    return [table(folder / "tiny.csv"), table(folder / "tiny_log.csv"), weights]


if __name__ == "__main__":
    sweep, folder, whole = map(Path, sys.argv[1:4])
    main(sweep, folder, whole, json.loads(sys.argv[4]))
