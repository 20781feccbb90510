"""A disk that fails under a run: a line names the file, no temporary file, a whole rerun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers import environment, tiny_protocol, tiny_sweep, written
from trials import LONG, verb

HERE = Path(__file__).parent
CALLS = ("write", "fsync", "rename", "open", "unlink", "read")
FAULTS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE", "ESTALE")
FAIL, SHORT, SLOW = range(3)
FOREVER = -9  # from the 9th call on


def trials() -> list[dict[str, Any]]:
    """Every call with every fault, once and for ever; by default two faults a call, early ones.

    Short and slow calls are no fault: the run goes on.
    """
    found = [
        {"call": call, "fault": fault, "nth": nth, "mode": FAIL}
        for i, call in enumerate(CALLS)
        for j, fault in enumerate(FAULTS)
        for nth in ((2 + j, FOREVER) if LONG else (1 + j,))
        if LONG or (j - 2 * i) % 7 < 2
    ]
    odd = (("write", SHORT), ("read", SHORT), ("write", SLOW))
    return found + [{"call": call, "fault": "", "nth": 1, "mode": mode} for call, mode in odd]


def fault_of(trial: dict[str, Any], folder: Path) -> str:
    """The law that one trial broke, or ""."""
    if trial["traceback"]:
        return "traceback"
    if trial["strays"]:
        return "temporary files stay"
    if not trial["same"] or trial["again"]:
        return "the rerun is not whole"
    if trial["mode"] != FAIL:
        return "" if trial["status"] == 0 and trial["hits"] else "the run fails"
    if not trial["status"]:
        return ""  # the run did without that call
    named = all(str(folder) in line and line.count(": ") >= 2 for line in trial["lines"])
    return "" if trial["status"] == 1 and trial["lines"] and named else "the file is not named"


def test_a_disk_fault_is_named_and_a_rerun_is_whole(shim: Path, tmp_path: Path) -> None:
    sweep = written(tiny_sweep(steps=(4, 8), protocols=(tiny_protocol(images=16),)), tmp_path)
    whole, wanted = tmp_path / "whole", trials()
    for words in (("run",), ("collect", "--out", whole)):
        assert verb(*words, sweep, "--store", whole / "store").status == 0
    path = os.pathsep.join([str(HERE), str(HERE.parent), environment()["PYTHONPATH"]])
    process = subprocess.run(
        [sys.executable, HERE / "disk_trials.py", sweep, tmp_path / "t", whole, json.dumps(wanted)],
        env=environment(LD_PRELOAD=str(shim), PYTHONPATH=path),
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(wanted), process.stderr[-2000:]
    faults = [f"{fault}: {trial}" for trial in found if (fault := fault_of(trial, tmp_path))]
    hits = sum(trial["hits"] > 0 for trial in found)
    print(f"disk: {len(found)} tried, {hits} hit, {len(faults)} faults")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults[:12])
