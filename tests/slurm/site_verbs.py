"""A cluster with a store of its own, the verbs as a user has them, and the attempts' logs."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from helpers import finished, started, tiny_sweep, written
from lab import Lab
from processes import until

from harness.base.files import read_lines
from harness.launch.ledger import ledger
from harness.spec import Run, Sweep
from harness.study.plan import missing
from harness.study.store import Store

Files = tuple[Path | str, Path]
ENDLESS = 10_000_000


def training(steps: int, **fields: Any) -> Sweep:
    return tiny_sweep(steps=(steps,), protocols=(), **fields)


@dataclass(frozen=True)
class Site:
    """A cluster, a store of its own, and the verbs as a user has them there."""

    lab: Lab
    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def write(self, sweep: Sweep, **fields: Any) -> Files:
        """The sweep and the cluster file."""
        given = {
            "executor": "slurm",
            "device": "cpu",
            "poll_seconds": 1,
            "hours": 1,
            "store": str(self.store.root),
        }
        path = self.folder / "cluster.toml"
        path.write_text(
            "".join(f"{key} = {toml(value)}\n" for key, value in (given | fields).items())
        )
        return written(sweep, self.folder), path

    def begun(self, verb: str, files: Files, *words: str, **more: str) -> subprocess.Popen[str]:
        command = (verb, files[0], *words, "--cluster", files[1])
        return started(*command, SLURM_CONF=self.lab.env["SLURM_CONF"], **more)

    def harness(self, verb: str, files: Files, *words: str, **more: str) -> tuple[int, str, str]:
        return finished(self.begun(verb, files, *words, **more))

    def launch(self, files: Files, *words: str, **environment: str) -> str:
        status, out, err = self.harness("launch", files, "--dirty", *words, **environment)
        # What the temporary folder of a test is on may well be this machine's own.
        assert status == 0 and (err == "" or err.endswith("if it is exported: jobs need it\n")), (
            out,
            err,
        )
        return out

    def cancel(self, files: Files, *words: str) -> None:
        status, out, err = self.harness("cancel", files, *words, "--yes")
        assert status == 0 and "jobs cancelled" in out, (out, err)

    def status(self, files: Files) -> dict[str, Any]:
        """What status says."""
        status, out, err = self.harness("status", files, "--json")
        assert status == 0 and err == "", (out, err)
        return json.loads(out)

    def says(self, files: Files, *states: str) -> bool:
        """Whether status calls the runs so."""
        return [run["state"] for run in self.status(files)["runs"]] == list(states)

    def jobs(self) -> list[str]:
        return [line["job"] for line in ledger(self.store) if "job" in line]

    def submissions(self) -> Counter[str]:
        """How often each task was."""
        return Counter(line["task"] for line in ledger(self.store) if "job" in line)

    def queue(self) -> dict[str, str]:
        """Job id → state, of what waits or runs."""
        lines = self.lab.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def node(self, job: str) -> str:
        return self.lab.run("squeue", "-h", f"--jobs={job}", "-o", "%N").strip()

    def empty(self) -> None:
        until(lambda: not self.queue())

    def step(self, run: Run) -> int:
        """How far the log of a run has come."""
        lines, _ = self.store.read_log(run)
        return int(lines[-1]["step"]) if lines else 0

    def trains(self, run: Run, steps: int = 40) -> None:
        """Waits until the run has come that much further."""
        goal = self.step(run) + steps
        until(lambda: self.step(run) >= goal)

    def starts(self, run: Run) -> list[int]:
        """Where each attempt began."""
        return [read_lines(path)[0][0]["start"] for path in self.store.logs(run)]

    def lost(self, run: Run) -> list[float]:
        """Seconds of work that each attempt repeated; the steps of an attempt follow each other."""
        attempts = [read_lines(path)[0] for path in self.store.logs(run)]
        for begin, *lines in attempts:
            assert [line["step"] for line in lines] == list(
                range(begin["start"] + 1, begin["start"] + 1 + len(lines))
            )
        clocks = [
            {begin["start"]: 0.0} | {line["step"]: line["seconds"] for line in lines}
            for begin, *lines in attempts
        ]
        return [
            clock[max(clock)] - clock[begin["start"]]
            for clock, (begin, *_) in zip(clocks, attempts[1:], strict=False)
        ]

    def finish(self, files: Files, runs: Sequence[Run], **fields: Any) -> None:
        """Ends endless runs a little further on, by a shorter sweep."""
        self.cancel(files)
        self.empty()
        sweep = training(max(map(self.step, runs)) + 40, runs=tuple(runs))
        shorter = self.write(sweep, **fields)
        self.launch(shorter)
        until(lambda: not missing(sweep, self.store))
        assert self.says(shorter, *["done"] * len(runs))
        for run in runs:
            assert all(a <= b for a, b in pairwise(self.starts(run)))


def undisturbed(site: Site, files: Files) -> Store:
    """The store of the same sweep, run on this machine."""
    store = Store(site.folder / "local")
    status, _, err = finished(started("run", files[0], "--store", store.root, "--device", "cpu"))
    assert status == 0, err
    return store


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(x)}' for key, x in value.items()) + "}"
    return repr(value)
