"""The verbs that read a finished study, and a copy of it to damage; conftest.py makes the study."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from trials import Result, verb


def plan(at: Path) -> Result:
    return verb("plan", at / "tiny.py", "--store", at / "store", "--json")


def status(at: Path) -> Result:
    return verb("status", at / "tiny.py", "--store", at / "store", "--json")


def run(at: Path) -> Result:
    return verb("run", at / "tiny.py", "--cluster", at / "cluster.toml")


def collect(at: Path) -> Result:
    return verb("collect", at / "tiny.py", "--store", at / "store", "--out", at / "results")


def encode(at: Path) -> Result:
    where = ("--out", at / "latents", "--cluster", at / "cluster.toml")
    return verb("encode", at / "pictures", "--data", "tiny", "--shard", 5, *where)


def verify(at: Path) -> Result:
    return verb("encode", at / "latents", "--verify")


def copied(folder: Path, at: Path) -> Path:
    """A copy to damage. Weights are linked: they are replaced, never written in place."""

    def copy(source: str, target: str) -> None:
        (os.link if source.endswith(".safetensors") else shutil.copy2)(source, target)

    shutil.copytree(folder, at, copy_function=copy)
    cluster = at / "cluster.toml"
    cluster.write_text(cluster.read_text().replace(str(folder), str(at)))
    return at
