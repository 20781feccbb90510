"""Cluster: where and how tasks run. It comes from a TOML file or flags, and enters no id. No torch."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.validation import Check, Mistakes, one_of, problems, refuse, within
from harness.models import MODELS

CHECKS: Mapping[str, Check] = {
    "executor": one_of(("local", "debug", "slurm")),
    "device": one_of(("auto", "cpu", "cuda")),
    "workers": within(1),
    "threads": within(1),
    "microbatch": within(1),
    "sampling_batch": within(1),
    "checkpoint_minutes": within(0, above=True),
    "nodes": within(1),
    "gpus_per_node": within(0),
    "cpus_per_task": within(1),
    "memory_gb": within(0, above=True),
    "gpu_memory_gb": within(0, above=True),
    "hours": within(0, above=True),
    "throttle": within(1),
    "retries": within(1),
    "poll_seconds": within(0, above=True),
}
# What a task asks the scheduler for.
RESOURCES = (
    "partition",
    "account",
    "qos",
    "constraint",
    "nodes",
    "gpus_per_node",
    "cpus_per_task",
    "memory_gb",
    "hours",
)
# What may differ by model, and for evaluations.
OVERRIDES = (
    *RESOURCES,
    "threads",
    "microbatch",
    "sampling_batch",
    "compile",
    "gpu_memory_gb",
    "retries",
)
# What a follower asks for where its table does not say: it has nothing to compute.
FOLLOWER: Mapping[str, Any] = {"nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1, "memory_gb": 2}
OF_FOLLOWER = ("partition", "account", "qos", "constraint", "cpus_per_task", "memory_gb", "hours")


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How tasks are executed.

    store: the folder; workers: tasks side by side on this machine, of `threads` CPU threads each;
    microbatch, sampling_batch: images in one forward; gpu_memory_gb: what plan and launch check
    them against; paths: from the name of a dataset, decoder or reference to where it lies; retries:
    submissions of a task that may end without its result; poll_seconds: between looks of launch
    --follow; partition … hours: what one task asks Slurm for, None being the site's default; one
    process per GPU; setup, environment: shell lines and variables before a job's Python; throttle:
    elements of an array at a time; models, evaluate: tables that override fields by the model's
    name, and for evaluations; follower: the table of what the job of launch --detach asks for.

    Raises:
        ValueError: naming every field that is of another type or out of range.
    """

    executor: str = "local"
    store: str = "store"
    device: str = "auto"
    workers: int = 1
    threads: int = 1
    checkpoint_minutes: int | float = 10
    compile: bool = False
    microbatch: int = 256
    sampling_batch: int = 256
    gpu_memory_gb: int | float | None = None
    paths: dict[str, str] = field(default_factory=dict)
    retries: int = 3
    poll_seconds: int | float = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    nodes: int = 1
    gpus_per_node: int = 0
    cpus_per_task: int | None = None
    memory_gb: int | float | None = None
    hours: int | float = 24
    setup: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    throttle: int = 256
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    follower: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse("Cluster", problems(self, CHECKS) + wrong_entries(self))

    @property
    def ranks(self) -> int:
        """Processes of one task: one per GPU, or one per node."""
        return self.nodes * max(1, self.gpus_per_node)

    def path(self, name: str) -> Path | None:
        return Path(self.paths[name]).expanduser() if name in self.paths else None

    def of(self, model: str, evaluates: bool) -> Cluster:
        """The cluster as a task of this model has it: the table of evaluations has the last word."""
        fields = self.models.get(model, {}) | (self.evaluate if evaluates else {})
        return dataclasses.replace(self, **fields, models={}, evaluate={}, follower={})

    def for_follower(self) -> Cluster:
        return dataclasses.replace(
            self, **{**FOLLOWER, **self.follower, "models": {}, "evaluate": {}, "follower": {}}
        )


def wrong_entries(cluster: Cluster) -> list[str]:
    """The problems within the lists and tables that are lists and tables."""
    tables = {
        f.name: value
        for f in dataclasses.fields(cluster)
        if isinstance(value := getattr(cluster, f.name), dict)
    }
    found = [
        f"{name}.{key} = {value!r} must be str"
        for name in ("environment", "paths")
        for key, value in tables.get(name, {}).items()
        if not isinstance(value, str)
    ]
    if isinstance(cluster.setup, list):
        found += [
            f"setup holds {line!r}: must be str"
            for line in cluster.setup
            if not isinstance(line, str)
        ]
    models = tables.get("models", {})
    found += [f'models."{model}" {fault}' for model in models if (fault := one_of(MODELS)(model))]
    for name, table, fields in (
        *((f'models."{model}"', table, OVERRIDES) for model, table in models.items()),
        ("evaluate", tables.get("evaluate"), OVERRIDES),
        ("follower", tables.get("follower"), OF_FOLLOWER),
    ):
        found += [f"{name}{mistake}" for mistake in wrong_table(table, fields)] if table else []
    return found


def wrong_table(table: Any, fields: Sequence[str]) -> list[str]:
    """The problems in a table that overrides these fields."""
    if not isinstance(table, dict):
        return [f" = {table!r} must be a table"]
    strange = [f".{key} {one_of(fields)(key)}" for key in table if key not in fields]
    try:
        Cluster(**{key: value for key, value in table.items() if key in fields})
    except Mistakes as error:
        strange += [f".{mistake}" for mistake in error.problems]
    return strange


def read_cluster(name: str) -> Cluster:
    """A Cluster from "local", "debug" or the path of a TOML file.

    Raises:
        ValueError: no such file, no TOML, or problems in it, all at once.
    """
    if name in ("local", "debug"):
        return Cluster(executor=name, poll_seconds=2)
    try:
        fields: dict[str, Any] = tomllib.loads(Path(name).read_text())
    except OSError as error:
        raise UserError(
            f"cluster {name!r} is neither local, debug nor a readable file: {error.strerror}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{name} is not TOML: {error}") from None
    known = [f.name for f in dataclasses.fields(Cluster)]
    strange = [f"{key} {one_of(known)(key)}" for key in fields if key not in known]
    try:
        cluster = Cluster(**{key: value for key, value in fields.items() if key in known})
    except Mistakes as error:
        strange += error.problems
    refuse(name, strange)
    return cluster
