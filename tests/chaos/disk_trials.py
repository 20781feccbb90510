"""Faults of a disk, one after another in one process under the shim: prints a line of JSON for each. Not a test."""

from __future__ import annotations

import ctypes
import errno
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from trials import Said, has_traceback, table, verb

CALLS = {"write": 1, "fsync": 2, "rename": 3, "open": 4, "unlink": 5, "read": 6}
FAIL, SHORT, SLOW = range(3)


def main(sweep: Path, folder: Path, whole: Path, trials: list[dict[str, Any]]) -> None:
    shim = ctypes.CDLL(None)
    torch.set_num_threads(1)
    for i, trial in enumerate(trials):
        store = folder / f"{i}"
        print(json.dumps(trial | tried(sweep, store, whole, shim, **trial)), flush=True)
        shutil.rmtree(store, ignore_errors=True)


def tried(sweep: Path, store: Path, whole: Path, shim: Any, call: str, nth: int, fault: str, mode: int) -> dict[str, Any]:
    """The study under one fault, what it left, and the study run again without."""
    number = getattr(errno, fault, 0) if mode == FAIL else 300  # microseconds
    shim.chaos_set(bytes(store / "store"), CALLS[call], nth, number, mode)
    first = [run(sweep, store)]
    hits = shim.chaos_hits()
    shim.chaos_set(b"", 0, 0, 0, 0)
    left = strays(store)
    again = [run(sweep, store)] if first[0].status else []
    verb("collect", sweep, "--store", store / "store", "--out", store)
    return {
        "hits": hits, "status": first[0].status, "lines": told(first[0]), "traceback": has_traceback(first, store),
        "strays": strays(store) if call == "unlink" else left, "again": [one.status for one in again], "same": results(store) == results(whole),
        "end": first[0].err.strip().splitlines()[-1:],
    }  # fmt: skip


def strays(folder: Path) -> list[str]:
    """Temporary files that nobody is writing any more."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.name.startswith((".", "tmp")))


def run(sweep: Path, folder: Path) -> Said:
    return verb("run", sweep, "--store", folder / "store")


def told(said: Said) -> list[str]:
    """The lines to a person: behind the bar, or the last."""
    return [line for line in said.err.splitlines() if line.startswith(("failed: ", "harness: "))]


def results(folder: Path) -> list[Any]:
    """Scores, log, weights and the states to go on from."""
    weights = [path.read_bytes() for path in sorted(folder.glob("store/runs/*/checkpoints/*/*.safetensors"))]
    return [table(folder / "tiny.csv"), table(folder / "tiny_log.csv"), weights]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), json.loads(sys.argv[4]))
