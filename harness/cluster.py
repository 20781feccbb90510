"""Cluster: where and how tasks run. It comes from a TOML file or flags, and enters no id. No torch."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.spec import Check, mistakes, one_of, refuse, within

CHECKS: Mapping[str, Check] = {
    "executor": one_of(("local", "debug")),
    "device": one_of(("auto", "cpu", "cuda")),
    "workers": within(1),
    "threads": within(1),
    "microbatch": within(1),
    "sampling_batch": within(1),
    "checkpoint_minutes": within(0, above=True),
}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How tasks are executed.

    store: the folder; workers: tasks side by side on this machine, of `threads` CPU threads each;
    microbatch, sampling_batch: images in one forward;
    paths: from the name of a dataset, decoder or reference to where it lies.

    Raises:
        ValueError: naming every field that is of another type or out of range.
    """

    executor: str = "local"
    store: str = "store"
    device: str = "auto"
    workers: int = 1
    threads: int = 1
    checkpoint_minutes: float = 10.0
    compile: bool = False
    microbatch: int = 256
    sampling_batch: int = 256
    paths: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse("Cluster", mistakes(self, CHECKS))

    def path(self, name: str) -> Path | None:
        return Path(self.paths[name]).expanduser() if name in self.paths else None


def read_cluster(name: str) -> Cluster:
    """A Cluster from "local", "debug" or the path of a TOML file.

    Raises:
        ValueError: no such file, no TOML, or mistakes in it, all at once.
    """
    if name in ("local", "debug"):
        return Cluster(executor=name)
    try:
        fields: dict[str, Any] = tomllib.loads(Path(name).read_text())
    except OSError as error:
        raise ValueError(f"cluster {name!r} is neither local, debug nor a readable file: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from None
    known = [f.name for f in dataclasses.fields(Cluster)]
    strange = [f"{key} {one_of(known)(key)}" for key in fields if key not in known]
    try:
        cluster = Cluster(**{key: value for key, value in fields.items() if key in known})
    except ValueError as error:
        strange.append(str(error).removeprefix("Cluster: "))
    refuse(name, strange)
    return cluster
