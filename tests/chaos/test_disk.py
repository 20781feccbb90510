"""A disk that fails under a run: one line that says where and why, nothing half-written, and run again all is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, tiny_protocol, tiny_sweep, written
from trials import LONG, verb

HERE = Path(__file__).parent
CALLS = ("write", "fsync", "rename", "open", "unlink", "read")
FAULTS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EACCES", "EMFILE", "ESTALE")
FAIL, SHORT, SLOW = range(3)


def trials() -> list[dict[str, Any]]:
    """Each call with each fault, early and late: 84; by default each call twice, with faults in turns."""
    every = [(call, fault, nth) for call in CALLS for fault in FAULTS for nth in (2 + FAULTS.index(fault), -9)]
    few = [(call, FAULTS[(2 * i + j) % 7], (1, 3)[j]) for i, call in enumerate(CALLS) for j in range(2)]
    failing = [{"call": call, "fault": fault, "nth": nth, "mode": FAIL} for call, fault, nth in (every if LONG else few)]
    odd = [{"call": call, "fault": "", "nth": 1, "mode": mode}
           for call, mode in (("write", SHORT), ("read", SHORT), ("write", SLOW))]  # fmt: skip
    return [*failing, *odd]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler")
    made = tmp_path_factory.mktemp("shim") / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, HERE / "shim.c", "-ldl"], check=True)
    return made


def test_a_disk_that_fails_is_named_and_the_rerun_is_whole(shim: Path, tmp_path: Path) -> None:
    sweep = written(tiny_sweep(steps=(4, 8), protocols=(tiny_protocol(images=16),)), tmp_path)
    whole, wanted = tmp_path / "whole", trials()
    assert verb("run", sweep, "--store", whole / "store").status == 0
    assert verb("collect", sweep, "--store", whole / "store", "--out", whole).status == 0
    path = os.pathsep.join([str(HERE), str(HERE.parent), environment()["PYTHONPATH"]])
    command = [sys.executable, HERE / "disk_trials.py", sweep, tmp_path / "trials", whole, json.dumps(wanted)]
    process = subprocess.run(
        command, env=environment(LD_PRELOAD=str(shim), PYTHONPATH=path), capture_output=True, text=True, check=False
    )
    found = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(wanted), process.stderr[-2000:]
    bad = [f"{fault}: {trial}" for trial in found if (fault := broken(trial, tmp_path))]
    print(f"disk: {len(found)} tried, {sum(trial['hits'] > 0 for trial in found)} hit, {len(bad)} fell")
    assert not bad, f"{len(bad)} fell:\n" + "\n".join(bad[:12])


def broken(trial: dict[str, Any], folder: Path) -> str:
    """How the law is broken by what one trial left, or "" """
    if trial["traceback"]:
        return "traceback"
    if trial["strays"]:
        return "stray files"
    if not trial["same"] or trial["again"] not in ([], [0]):
        return "not the same when run again"
    if trial["mode"] != FAIL:
        return "" if trial["status"] == 0 and trial["hits"] else "short or slow is not wrong"
    if not trial["status"]:
        return ""  # it did without, or the call never came
    named = all(str(folder) in line and line.count(": ") >= 2 for line in trial["lines"])
    return "" if trial["status"] == 1 and trial["lines"] and named else "not named"
