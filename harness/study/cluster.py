"""Cluster: where and how tasks run, from a TOML file or flags. It enters no id. No torch."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from harness.base.errors import UserError
from harness.base.validation import Mistakes, one_of, problems, refuse, tagged, within
from harness.models import MODELS

LOGGERS = ("tensorboard", "wandb", "trackio")
POSITIVE = within(0, above=True)
# Tags of fields: what a task asks the scheduler for, what a follower's table may hold, and what may
# differ by model and for evaluations.
RESOURCE, FOLLOWER, OVERRIDE = "resource", "follower", "override"
# What a follower asks for where its table does not say: it has nothing to compute.
SMALL: Mapping[str, Any] = {"nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1, "memory_gb": 2}


def even_parts(count: int, most: int) -> int:
    """The largest number of equal parts of `count`, at most `most`."""
    return next(parts for parts in range(most, 0, -1) if count % parts == 0)


def known_loggers(names: list[str]) -> str | None:
    """A check that every logger is one of ours; entries of another type are named elsewhere."""
    faults = [(n, one_of(LOGGERS)(n)) for n in names if isinstance(n, str)]
    return next((f"holds {name!r}: it {fault}" for name, fault in faults if fault), None)


def known_home(paths: dict[str, str]) -> str | None:
    """A check that ~ and ~user can be resolved."""
    for name, path in paths.items():
        try:
            Path(path if isinstance(path, str) else "").expanduser()
        except RuntimeError:
            return f"names a home folder that does not exist in {name}: give the full path"
    return None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """How tasks are executed.

    store: the folder; workers: tasks side by side on this machine, of `threads` CPU threads each;
    repeatable: whether training on a GPU takes kernels that repeat to the bit, some of them slower;
    microbatch, sampling_batch: images in one forward; gpu_memory_gb: what plan and launch check
    them against; paths: from the name of a dataset, decoder or reference to where it lies; retries:
    submissions of a task that may end without its result; poll_seconds: between looks of launch
    --follow; partition … hours: what one task asks Slurm for, None being the site's default; one
    process per GPU; save_seconds: from the signal to save until a job's time is up; setup,
    environment: shell lines and variables before a job's Python; throttle: elements of an array at
    a time; exclude: nodes that no job runs on; sbatch: any other option of sbatch; max_jobs: of a
    sweep that wait or run; hang_minutes: without a line in its log after which the follower ends a
    job; stop_dominated: whether it ends trainings whose last score will be above that of a finished
    run of no more compute; latency_seconds: until files of an ended job are seen here;
    memory_growth: factor on memory_gb after each end for want of memory; loggers: that show losses
    and scores beside the JSON lines; on_failure, on_done: commands that the follower runs; models,
    evaluate: tables that override fields by the model's name, and for evaluations; follower: the
    table of what the job of launch --detach asks for.

    Raises:
        UserError: naming every field that is of another type or out of range.
    """

    executor: Annotated[str, one_of(("local", "debug", "slurm"))] = "local"
    store: str = "store"
    device: Annotated[str, one_of(("auto", "cpu", "cuda"))] = "auto"
    workers: Annotated[int, within(1)] = 1
    threads: Annotated[int, within(1), OVERRIDE] = 1
    checkpoint_minutes: Annotated[int | float, POSITIVE] = 10
    compile: Annotated[bool, OVERRIDE] = False
    repeatable: Annotated[bool, OVERRIDE] = True
    microbatch: Annotated[int, within(1), OVERRIDE] = 256
    sampling_batch: Annotated[int, within(1), OVERRIDE] = 256
    gpu_memory_gb: Annotated[int | float | None, POSITIVE, OVERRIDE] = None
    paths: Annotated[dict[str, str], known_home] = field(default_factory=dict)
    retries: Annotated[int, within(1), OVERRIDE] = 3
    poll_seconds: Annotated[int | float, POSITIVE] = 60
    partition: Annotated[str | None, RESOURCE, FOLLOWER] = None
    account: Annotated[str | None, RESOURCE, FOLLOWER] = None
    qos: Annotated[str | None, RESOURCE, FOLLOWER] = None
    constraint: Annotated[str | None, RESOURCE, FOLLOWER] = None
    nodes: Annotated[int, within(1), RESOURCE] = 1
    gpus_per_node: Annotated[int, within(0), RESOURCE] = 0
    cpus_per_task: Annotated[int | None, within(1), RESOURCE, FOLLOWER] = None
    memory_gb: Annotated[int | float | None, POSITIVE, RESOURCE, FOLLOWER] = None
    hours: Annotated[int | float, POSITIVE, RESOURCE, FOLLOWER] = 24
    save_seconds: Annotated[int, within(30), RESOURCE] = 120
    setup: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    throttle: Annotated[int, within(1)] = 256
    exclude: Annotated[list[str], RESOURCE, FOLLOWER] = field(default_factory=list)
    sbatch: Annotated[dict[str, str | int | float | bool], RESOURCE, FOLLOWER] = field(
        default_factory=dict
    )
    max_jobs: Annotated[int | None, within(1)] = None
    hang_minutes: Annotated[int | float | None, POSITIVE] = None
    stop_dominated: bool = False
    latency_seconds: Annotated[int | float, within(0)] = 30
    memory_growth: Annotated[int | float, within(1), OVERRIDE] = 1
    loggers: Annotated[list[str], known_loggers] = field(default_factory=list)
    on_failure: str | None = None
    on_done: str | None = None
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    follower: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        refuse("Cluster", problems(self) + table_problems(self))

    @property
    def ranks(self) -> int:
        """Processes of one task: one per GPU, or one per node."""
        return self.nodes * max(1, self.gpus_per_node)

    def path(self, name: str) -> Path | None:
        return Path(self.paths[name]).expanduser() if name in self.paths else None

    def of(self, model: str, evaluates: bool) -> Cluster:
        """The cluster as a task of this model has it; the table of evaluations comes last."""
        fields = self.models.get(model, {}) | (self.evaluate if evaluates else {})
        return dataclasses.replace(self, **fields, models={}, evaluate={}, follower={})

    def for_follower(self) -> Cluster:
        """The cluster as the job of a follower has it."""
        return dataclasses.replace(
            self, **{**SMALL, **self.follower, "models": {}, "evaluate": {}, "follower": {}}
        )


RESOURCES = tagged(Cluster, RESOURCE)


def table_problems(cluster: Cluster) -> list[str]:
    """The problems within the tables that override fields, where they are tables."""
    overrides = tagged(Cluster, RESOURCE, OVERRIDE)
    models = cluster.models if isinstance(cluster.models, dict) else {}
    unknown = [f'models."{model}" {fault}' for model in models if (fault := MODELS.problem(model))]
    tables = {f'models."{model}"': (table, overrides) for model, table in models.items()}
    if isinstance(cluster.evaluate, dict):
        tables["evaluate"] = cluster.evaluate, overrides
    if isinstance(cluster.follower, dict):
        tables["follower"] = cluster.follower, tagged(Cluster, FOLLOWER)
    return unknown + [
        f"{name}{problem}"
        for name, (table, fields) in tables.items()
        if table != {}
        for problem in override_problems(table, fields)
    ]


def override_problems(table: Any, fields: Sequence[str]) -> list[str]:
    """The problems in a table that overrides these fields."""
    if not isinstance(table, dict):
        return [f" = {table!r} must be a table"]
    unknown = [f".{key} {one_of(fields)(key)}" for key in table if key not in fields]
    try:
        Cluster(**{key: value for key, value in table.items() if key in fields})
    except Mistakes as error:
        return unknown + [f".{problem}" for problem in error.problems]
    return unknown


def expand(fields: dict[str, Any]) -> list[str]:
    """Resolves ~ and $NAME in `store` and `paths`, as a shell would; returns what is not set."""
    tables = [("", fields, ["store"])]
    if isinstance(paths := fields.get("paths"), dict):
        tables.append(("paths.", paths, [*paths]))
    unset = []
    for prefix, table, names in tables:
        for name in names:
            if isinstance(text := table.get(name), str):
                table[name] = os.path.expanduser(os.path.expandvars(text))
                if "$" in table[name]:
                    unset.append(f"{prefix}{name} = {text!r} names a variable that is not set")
    return unset


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
    unknown = expand(fields)
    unknown += [f"{key} {one_of(known)(key)}" for key in fields if key not in known]
    try:
        cluster = Cluster(**{key: value for key, value in fields.items() if key in known})
    except Mistakes as error:
        unknown += error.problems
    refuse(name, unknown)
    return cluster
