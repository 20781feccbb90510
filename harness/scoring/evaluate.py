"""One evaluation: images → features, shard by shard → values → a record. What is finished is never repeated."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.files import atomic_write, is_whole, read_json, sha256, write_json
from harness.base.provenance import provenance
from harness.base.tensors import load_tensors, save_tensors
from harness.data import DATASETS
from harness.data.index import incomplete, read_index
from harness.models.autoencoder import Decoder, decoder_of, encoder_digest, load_vae, to_uint8
from harness.scoring import features, metrics, reference
from harness.scoring.features import Extractor
from harness.scoring.reference import Reference
from harness.scoring.sample import labels, load_network, sample
from harness.spec import Protocol, Run
from harness.study.cluster import Cluster
from harness.study.store import SCHEMA, Store
from harness.study.tasks import Evaluate, Progress

SHARD = 512  # images whose features are kept together: what a kill can cost
PREVIEW = 16  # images kept beside a record, for looking and for Figure 7
METRICS = metrics.METRICS
# Beside digits these would take longer than sampling does, and nobody compares them across papers.
INCEPTION_ONLY = {"kid", "precision_fp16", "recall_fp16"}


def evaluate(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress
) -> None:
    """Scores one checkpoint under one protocol and writes the record.

    Raises:
        ValueError: reference, extractor, decoder or weights are not there or do not fit: before
        anything is sampled. Interrupted: a signal came; finished shards stay.
    """
    began, run, protocol = time.perf_counter(), task.run, task.protocol
    extractor = load_extractor(protocol, cluster, rank.device)
    known = load_reference(protocol, cluster, store, extractor, DATASETS[run.data].pixels)
    decode = decoder_for(run, protocol, cluster, rank.device)
    net = load_network(store, run, task.step, protocol.weights, rank.device, cluster.compile)
    folder = store.shards(run, task.step, protocol)
    todo = [i for i in range(-(-protocol.images // SHARD)) if not is_whole(shard_path(folder, i))]
    rank.wait()  # all have seen the same shards before the first new one appears
    for first in range(
        0, len(todo), rank.world
    ):  # as many rounds on every rank: they stop together
        for shard in todo[first + rank.index : first + rank.index + 1]:
            span = range(shard * SHARD, min(protocol.images, (shard + 1) * SHARD))
            score_shard(
                task, span, net, decode, extractor, cluster, rank, shard_path(folder, shard)
            )
        progress(
            f"{run.model} @ {task.step}: {protocol.name}",
            min(1.0, (first + rank.world) / len(todo)),
        )
        if stop.asked(rank):
            raise Interrupted(
                f"{task.id} stopped after shard {first + rank.world}: run the same command to go on"
            )
    rank.wait()
    if rank.is_main:
        write_record(task, store, folder, extractor, known, rank, time.perf_counter() - began)
    rank.wait()


def decoder_for(run: Run, protocol: Protocol, cluster: Cluster, device: torch.device) -> Decoder:
    """
    Raises:
        UserError: no such weights, or the latents were made by another encoder than this decoder's.
    """
    name, latents = protocol.decoder, cluster.path(run.data)
    if name == "identity":
        return to_uint8
    vae = load_vae(name, cluster.path(name))
    if latents is not None:
        made, own = read_index(latents).vae, encoder_digest(vae)
        if made["digest"] != own:
            raise UserError(
                f"decoder {name!r} has encoder {own[:12]}, the latents in {latents} were made by {made['digest'][:12]}"
                f" ({made['name']}): set paths.{name} to its weights"
            )
    return decoder_of(vae, device)


def write_samples(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, out: Path, progress: Progress
) -> None:
    """The images of an evaluation as the npz that ADM's evaluator reads, a batch at a time."""
    run, protocol = task.run, task.protocol
    decode = decoder_for(run, protocol, cluster, rank.device)
    net = load_network(store, run, task.step, protocol.weights, rank.device, cluster.compile)

    def batches() -> Iterator[Tensor]:
        for low in range(0, protocol.images, cluster.sampling_batch):
            high = min(protocol.images, low + cluster.sampling_batch)
            yield decode(sample(net, run, protocol, low, high, rank.device)).cpu()
            progress(f"{run.model} @ {task.step}: {protocol.name}", high / protocol.images)

    reference.write_array(out, batches(), protocol.images)


def shard_path(folder: Path, shard: int) -> Path:
    return folder / f"{shard:05d}.safetensors"


@functools.lru_cache(maxsize=2)
def cached_extractor(name: str, path: Path | None, device: str) -> Extractor:
    return features.load(name, path, device)


def load_extractor(protocol: Protocol, cluster: Cluster, device: torch.device) -> Extractor:
    return cached_extractor(protocol.features, cluster.path(protocol.features), str(device))


@functools.lru_cache(maxsize=2)
def cached_reference(name: str, path: Path | None, extractor: Extractor) -> Reference:
    if path is None:
        from harness.data.digits import load

        return reference.from_images(name, to_uint8(load()[0]).split(SHARD), extractor)
    return reference.read(path, extractor)


def load_reference(
    protocol: Protocol, cluster: Cluster, store: Store, extractor: Extractor, pixels: int
) -> Reference:
    """The reference statistics by name: from the cluster's paths, from the store, or of the embedded digits.

    Raises:
        ValueError: there is none, its images are not `pixels` wide, or it is not the one the
        protocol pins.
    """
    path = cluster.path(protocol.reference) or store.references() / f"{protocol.reference}.npz"
    embedded = protocol.reference == "digits" and not path.exists()
    if not embedded and not path.exists():
        raise UserError(
            f"reference {protocol.reference!r} is not at {path}: put ADM's npz there, set paths.{protocol.reference} in"
            " the cluster file, or make one with harness reference"
        )
    side = pixels if embedded else reference.side(path)
    if side not in (0, pixels):
        raise UserError(
            f"reference {protocol.reference!r} has {side} pixels a side, the samples {pixels}: use one of that size"
        )
    known = cached_reference(protocol.reference, None if embedded else path, extractor)
    if protocol.reference_digest and not known.digest.startswith(protocol.reference_digest):
        raise UserError(
            f"reference {protocol.reference!r} has digest {known.digest[:12]}, the protocol wants"
            f" {protocol.reference_digest}: use that file, or another protocol"
        )
    return known


def score_shard(
    task: Evaluate,
    span: range,
    net: nn.Module,
    decode: Decoder,
    extractor: Extractor,
    cluster: Cluster,
    rank: Rank,
    path: Path,
) -> None:
    """Samples, decodes and measures the images of `span`; their features appear at once at `path`."""
    parts: list[dict[str, Tensor]] = []
    first: list[Tensor] = []
    for low in range(span.start, span.stop, cluster.sampling_batch):
        high = min(span.stop, low + cluster.sampling_batch)
        images = decode(sample(net, task.run, task.protocol, low, high, rank.device))
        first += [images[: max(0, PREVIEW - low)].cpu()]
        parts.append(extractor(images))
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if span.start == 0:
        tensors["preview"] = torch.cat(first)[:PREVIEW]
    save_tensors(path, tensors)


def few_images(run: Run, store: Store) -> list[str]:
    """What is to be said of a run that was trained on a part of its dataset."""
    path = store.data(run)
    notice = incomplete(run.data, read_json(path)["images"]) if path.exists() else ""
    return [f"trained on {notice}"] if notice else []


def write_record(
    task: Evaluate,
    store: Store,
    folder: Path,
    extractor: Extractor,
    known: Reference,
    rank: Rank,
    seconds: float,
) -> None:
    """The values of all shards, with everything that says where they come from; then the shards go."""
    run, protocol = task.run, task.protocol
    shards = [shard_path(folder, i) for i in range(-(-protocol.images // SHARD))]
    # Layer by layer: 50,000 images have 1 GB of features, and would have two for a moment.
    gathered = {
        n: torch.cat([load_tensors(shard, prefix=n)[n] for shard in shards])
        for n in features.LAYERS
    }
    width = gathered["pool"].shape[1]
    wanted = [
        name for name in METRICS if protocol.features == "inception" or name not in INCEPTION_ONLY
    ]
    weights = (
        store.ema(run, task.step) if protocol.weights == "ema" else store.state(run, task.step)
    )
    record = {
        "schema": SCHEMA,
        "run": run.id,
        "step": task.step,
        "protocol": protocol.id,
        "protocol_fields": protocol.canonical(),
        "n": len(gathered["pool"]),
        "values": metrics.values(gathered, known, wanted),
        "extractor": {"name": extractor.name, "digest": extractor.digest},
        "reference": {"name": known.name, "digest": known.digest, "n": known.n},
        "checkpoint": sha256(weights),
        "warnings": [
            *extractor.warnings,
            *metrics.warnings(protocol.images, width),
            *few_images(run, store),
        ],
        "seconds": round(seconds, 3),
        "world": rank.world,
        **provenance(rank.device),
    }
    preview = load_tensors(shards[0], prefix="preview")["preview"].permute(0, 2, 3, 1).numpy()
    shown = labels(protocol, DATASETS[run.data].classes, 0, len(preview)).numpy()
    with atomic_write(store.preview(run, task.step, protocol)) as beside, beside.open("wb") as file:
        np.savez_compressed(file, images=preview, labels=shown)
    write_json(store.record(run, task.step, protocol), record)
    shutil.rmtree(folder)
