"""A cluster, a store of its own, and the verbs of the command line as a user has them there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import finished, started, written
from lab import Lab, until

from harness.ledger import ledger
from harness.spec import Sweep
from harness.store import Store


@dataclass(frozen=True)
class Site:
    """A cluster, a store of its own, and the verbs as a user has them there."""

    lab: Lab
    folder: Path

    @property
    def store(self) -> Store:
        return Store(self.folder / "store")

    def write(self, sweep: Sweep, **fields: Any) -> tuple[Path, Path]:
        """The sweep and the cluster file."""
        given = {"executor": "slurm", "device": "cpu", "poll_seconds": 1, "hours": 1, "store": str(self.store.root)}
        path = self.folder / "cluster.toml"
        path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in (given | fields).items()))
        return written(sweep, self.folder), path

    def harness(self, verb: str, files: tuple[Path | str, Path], *words: str, **more: str) -> tuple[int, str, str]:
        command = (verb, files[0], *words, "--cluster", files[1])
        return finished(started(*command, SLURM_CONF=self.lab.env["SLURM_CONF"], **more))

    def launch(self, files: tuple[Path, Path], *words: str, **environment: str) -> str:
        status, out, err = self.harness("launch", files, "--dirty", *words, **environment)
        assert status == 0 and err == "", (out, err)
        return out

    def jobs(self) -> list[str]:
        return [line["job"] for line in ledger(self.store)]

    def queue(self) -> dict[str, str]:
        """Job id → state, of what waits or runs."""
        lines = self.lab.run("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def empty(self) -> None:
        until(lambda: not self.queue())


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}" = {toml(x)}' for key, x in value.items()) + "}"
    return repr(value)
