"""What a run costs before it starts: multiply-adds, device-hours and disk. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data import DATASETS
from harness.extractors import EXTRACTORS
from harness.spec import AnyProtocol, Protocol, Run, Sweep, Validation
from harness.study.branches import fork
from harness.study.cluster import Cluster
from harness.study.compute import gflops, parameters, training_gflops
from harness.study.logs import is_finite
from harness.study.plan import Cell
from harness.study.speed import Speed, Work, hours
from harness.study.store import STATES_KEPT
from harness.study.tasks import NETWORK, Evaluate, Train

BYTES = 4  # checkpoints are fp32
# Forward multiply-adds of one image / 1e9, as torch's own counter has them (tests/test_cost.py):
# AutoencoderKL as published, at 256 px, and of that its one attention.
AUTOENCODER_GMACS = {"encoding": 136.361, "decoding": 311.094}
ATTENTION_GMACS = 1.0737


def training(run: Run) -> Work:
    """A training step's share of one image: the backward pass counts as two forwards."""
    return Work("training", subject(run), run.precision, training_gflops(run))


def subject(run: Run) -> str:
    """What distinguishes the networks of runs."""
    return " ".join(
        filter(None, (run.model, run.conditioning, run.variant, run.data, run.objective))
    )


def sampling(run: Run, protocol: Protocol) -> Work:
    """One forward of one image within the sampler; guidance does two of them."""
    what = f"{subject(run)} {protocol.sampler}"
    return Work("sampling", what, protocol.precision, gflops(run))


def validation(run: Run, protocol: Validation) -> Work:
    """One forward of one held-out image."""
    return Work("validation", subject(run), protocol.precision, gflops(run))


def autoencoder(what: str, data: str, precision: str = "fp32") -> Work:
    """diffusers' AutoencoderKL, one image; attention grows as the square of its pixels."""
    area = (DATASETS[data].pixels / 256) ** 2
    gmacs = (AUTOENCODER_GMACS[what] - ATTENTION_GMACS) * area + ATTENTION_GMACS * area**2
    return Work(what, f"AutoencoderKL {DATASETS[data].pixels}px", precision, gmacs)


def decoding(run: Run, protocol: Protocol) -> Work:
    """Decoding one image: in TF32 where the protocol allows any rounding of products."""
    exact = protocol.precision == "fp32"
    return autoencoder("decoding", run.data, "fp32" if exact else "tf32")


def features(protocol: Protocol) -> Work:
    return Work("features", protocol.features, "fp32", EXTRACTORS[protocol.features].gmacs)


def works(run: Run, protocols: Iterable[AnyProtocol]) -> Iterator[Work]:
    """Everything that is done for a run."""
    yield training(run)
    if run.data_row.latent:
        yield autoencoder("encoding", run.data)
    for protocol in protocols:
        if isinstance(protocol, Validation):
            yield validation(run, protocol)
            continue
        yield sampling(run, protocol)
        yield features(protocol)
        if protocol.decoder != "identity":
            yield decoding(run, protocol)


def kind(run: Run) -> tuple[object, ...]:
    """What decides the cost of a run: a sweep of 10,000 has few of these."""
    names = ("model", "conditioning", "variant", "data", "precision", "batch_size", "objective")
    return *(getattr(run, name) for name in names), run.optimizer


@dataclass(frozen=True)
class Cost:
    """The cost of a run: device-hours, and bytes on the disk when it is finished."""

    train_hours: float = 0.0
    sample_hours: float = 0.0
    decode_hours: float = 0.0
    feature_hours: float = 0.0
    validate_hours: float = 0.0
    encode_hours: float = 0.0
    disk_bytes: int = 0
    kept_bytes: int = 0  # of the disk, what is kept of sampled images

    @property
    def evaluate_hours(self) -> float:
        sampled = self.sample_hours + self.decode_hours + self.feature_hours
        return sampled + self.validate_hours

    @property
    def hours(self) -> float:
        return self.train_hours + self.evaluate_hours


def evaluation(
    run: Run, protocol: AnyProtocol, speed: Speed, count: int = 1, source: str = NETWORK
) -> Cost:
    """The device-hours of `count` evaluations, without the metrics, which take minutes.

    source: what they are computed from, as Evaluate.source.
    """
    forwards = count * protocol.passes
    if isinstance(protocol, Validation):
        return Cost(validate_hours=hours(forwards, validation(run, protocol), speed))
    if source == "features":
        return Cost()
    images = count * protocol.images
    sampled = hours(forwards, sampling(run, protocol), speed) if source == NETWORK else 0.0
    decode = (
        0.0 if protocol.decoder == "identity" else hours(images, decoding(run, protocol), speed)
    )
    seen = hours(images, features(protocol), speed)
    return Cost(0.0, sampled, decode, seen)


def cost(cell: Cell, sweep: Sweep, speed: Speed) -> Cost:
    """The cost of a cell's missing tasks at that speed, and its disk when all is there.

    Protocols that sample alike are sampled once.
    """
    run = cell.run
    images = sum(
        run.batch_size * (t.steps[-1] - t.start) for t in cell.tasks if isinstance(t, Train)
    )
    counts = Counter(shared_work(t for t in cell.tasks if isinstance(t, Evaluate)))
    parts = [evaluation(run, p, speed, n, source) for (p, source), n in counts.items()]
    kept = kept_bytes(run, sweep)
    states = STATES_KEPT + (fork(run) is not None)
    states *= 1 + len(run.averages) + run.optimizer_row.copies
    copies = len(sweep.steps_of(run)) * len(cell.weights) + states
    return Cost(
        hours(images, training(run), speed) if images else 0.0,
        sum(part.sample_hours for part in parts),
        sum(part.decode_hours for part in parts),
        sum(part.feature_hours for part in parts),
        sum(part.validate_hours for part in parts),
        disk_bytes=BYTES * parameters(run) * copies + kept,
        kept_bytes=kept,
    )


def shared_work(tasks: Iterable[Evaluate]) -> Iterator[tuple[AnyProtocol, str]]:
    """The protocol of each task, and what it is computed from once those before it are done.

    Features are shared by protocols that sample, decode and extract alike, whatever their
    reference; latents by those that sample alike, where they are kept. The most images come first.
    """
    there: dict[object, int] = {}
    for task in sorted(tasks, key=lambda task: task.protocol.n, reverse=True):
        p, source = task.protocol, task.source
        if isinstance(p, Protocol) and source == NETWORK:
            images = (task.step, p.sampled)
            seen = (*images, p.decoder, p.features)
            for key, kind in ((images, "latents"), (seen, "features")):
                if there.get(key, 0) >= p.n and kind in task.keep:
                    source = kind
                there.setdefault(key, p.n)
        yield p, source


def kept_bytes(run: Run, sweep: Sweep) -> int:
    """What stays of a run's sampled images; or else the features of one evaluation in progress."""
    sizes: dict[object, int] = {}
    for step, p in sweep.scores_of(run):
        if not isinstance(p, Protocol):
            continue
        latent = BYTES * math.prod(run.data_row.shape)
        for kind, key, size in (
            ("latents", (step, p.sampled), latent),
            ("features", (step, p.sampled, p.decoder, p.features), EXTRACTORS[p.features].bytes),
        ):
            if kind in sweep.keep:
                sizes[kind, key] = max(sizes.get((kind, key), 0), size * p.n)
    passing = [EXTRACTORS[p.features].bytes * p.n for p in sweep.sampling]
    return sum(sizes.values()) + (0 if "features" in sweep.keep else max(passing, default=0))


def encodings(cells: Iterable[Cell], cluster: Cluster, speed: Speed) -> dict[str, Cost]:
    """The cost of encoding each dataset that has a missing training and no latents.

    Latents are the fp16 mean and standard deviation of both mirror images.
    """
    trained = {t.run.data for cell in cells for t in cell.tasks if isinstance(t, Train)}
    return {
        name: encoding(name, speed)
        for name in sorted(trained)
        if DATASETS[name].latent and DATASETS[name].images and not encoded(cluster.path(name))
    }


def encoded(path: Path | None) -> bool:
    return path is not None and (path / "index.json").exists()


def encoding(name: str, speed: Speed) -> Cost:
    data = DATASETS[name]
    images = data.images or 0
    disk = images * 2 * 2 * data.channels * data.size**2 * 2
    return Cost(
        encode_hours=hours(2 * images, autoencoder("encoding", name), speed), disk_bytes=disk
    )


def used_hours(
    attempts: Iterable[Sequence[Mapping[str, Any]]], records: Iterable[Mapping[str, Any]]
) -> float:
    """Device-hours spent: of every attempt as far as its log goes, and of each score's last one.

    Values that a record gained later count as well.
    """
    seconds = 0.0
    for lines in attempts:
        world = next((line["world"] for line in lines if "world" in line), 1)
        seconds += world * sum(line.get("seconds", 0.0) for line in lines[-1:])
    for part in (part for record in records for part in (record, *record.get("added", ()))):
        spent, world = part.get("seconds", 0.0), part.get("world", 1)
        if is_finite(spent) and is_finite(world):  # collect names a record that is damaged
            seconds += spent * world
    return seconds / 3600
