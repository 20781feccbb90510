"""Tasks: what a store still lacks, each with its id, size, lock, result and resources."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.files import is_intact, is_whole
from harness.base.validation import problems, refuse
from harness.data.checks import is_complete
from harness.data.index import claim_path, shards_in
from harness.spec import AnyProtocol, Protocol, Run, Validation, read_protocol
from harness.study.cluster import Cluster
from harness.study.compute import sampling_flop, training_flop
from harness.study.store import Store

NETWORK = "network"
Progress = Callable[[str, float], None]  # a line of news, and the share of the task that is done


@dataclass(frozen=True)
class Train:
    """Train `run` until the last of `steps`, leaving these `weights` at each to be scored.

    ready: False while the first steps of another run are waited for, which are its own.
    """

    run: Run
    steps: tuple[int, ...]
    start: int
    reason: str
    weights: tuple[str, ...] = ("ema",)
    ready: bool = True

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def size(self) -> float:
        """Operations: what progress is measured in, and what goes first."""
        return training_flop(self.run, self.steps[-1] - self.start)

    def claim(self, store: Store) -> Path:
        return store.train_claim(self.run)

    def is_done(self, store: Store) -> bool:
        return all(self.is_saved(store, step) for step in self.steps)

    def is_saved(self, store: Store, step: int) -> bool:
        """Whether all weights that are scored at `step` are there."""
        return all(is_whole(store.weights(self.run, step, kind)) for kind in self.weights)

    def position(self, store: Store) -> int:
        """Where the next attempt begins: a step."""
        return self.start

    def resources(self, cluster: Cluster) -> Cluster:
        return cluster.of(self.run.model, evaluates=False)


@dataclass(frozen=True)
class Evaluate:
    """Score the checkpoint of `run` at `step` under `protocol`; `ready` once it can be.

    keep: what stays of its images, as Sweep.keep; source: what there is to compute it from, the
    network, or "latents" or "features" that were kept.
    """

    run: Run
    step: int
    protocol: AnyProtocol
    ready: bool
    reason: str
    keep: tuple[str, ...] = ("features",)
    source: str = NETWORK

    @property
    def id(self) -> str:
        return f"{self.run.id}@{self.step}:{self.protocol.id}"

    @property
    def sampling(self) -> Protocol:
        """The protocol, of a task that samples images."""
        assert isinstance(self.protocol, Protocol), self.id
        return self.protocol

    @property
    def size(self) -> float:
        """Operations of the network; of what needs none of it, one pass of each image."""
        whole = sampling_flop(self.run, self.protocol)
        return whole if self.source == NETWORK else whole * self.protocol.n / self.protocol.passes

    def claim(self, store: Store) -> Path:
        return store.evaluate_claim(self.run, self.step, self.protocol)

    def is_done(self, store: Store) -> bool:
        if not is_intact(store.record(self.run, self.step, self.protocol)):
            return False
        return not store.lacking(self.run, self.step, self.protocol)

    def position(self, store: Store) -> int:
        """Where the next attempt begins: the number of feature shards that are there."""
        if isinstance(self.protocol, Validation):
            return 0
        return len(list(store.shards(self.run, self.step, self.protocol).glob("[0-9]*")))

    def resources(self, cluster: Cluster) -> Cluster:
        return cluster.of(self.run.model, evaluates=True)


@dataclass(frozen=True)
class Encode:
    """Encode the images at `source` as latents of `data` in the folder `out`, by `vae`."""

    source: str
    out: str
    data: str
    vae: str
    shard: int  # images of a file
    reason: str = "not encoded"

    @property
    def name(self) -> str:
        return f"encode-{self.data}"

    @property
    def id(self) -> str:
        return f"{self.name}:{self.out}"

    @property
    def ready(self) -> bool:
        return True

    @property
    def size(self) -> float:
        return 1.0  # it has the progress bar to itself

    def claim(self, store: Store) -> Path:
        return claim_path(Path(self.out))

    def is_done(self, store: Store) -> bool:
        """Whether the folder holds these latents, whole.

        Raises:
            UserError: latents of something else lie there.
        """
        return is_complete(Path(self.out), self.data, self.vae, self.shard)

    def position(self, store: Store) -> int:
        """Where the next attempt begins: the number of shards that are there."""
        return sum(1 for _ in shards_in(Path(self.out)))

    def resources(self, cluster: Cluster) -> Cluster:
        return cluster.of("", evaluates=False)


Task = Train | Evaluate | Encode
KINDS: dict[str, type[Task]] = {kind.__name__: kind for kind in (Train, Evaluate, Encode)}


def to_json(task: Task) -> dict[str, Any]:
    """A task as JSON."""
    return {"kind": type(task).__name__, **asdict(task)}


def from_json(fields: Mapping[str, Any]) -> Task:
    """The task that to_json() wrote.

    Raises:
        UserError: it did not write this.
    """
    given = dict(fields)
    kind = KINDS.get(given.pop("kind", ""))
    try:
        if "run" in given:
            given["run"] = Run(**given["run"])
        if "protocol" in given:
            given["protocol"] = read_protocol(given["protocol"])
        for name in ("steps", "weights", "keep"):
            if isinstance(given.get(name), list):
                given[name] = tuple(given[name])
        task = kind(**given) if kind else None
    except TypeError as error:  # of a constructor: a field it lacks or does not know
        raise UserError(
            f"{json.dumps(fields)[:200]} is not a task ({error}): launch it again"
        ) from None
    if task is None:
        raise UserError(f"{json.dumps(fields)[:200]} is not a task: launch it again")
    refuse(f"task {task.id}", problems(task))
    return task
