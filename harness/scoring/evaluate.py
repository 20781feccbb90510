"""One evaluation: images → features, shard by shard → a record. A finished shard is never repeated."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.files import is_whole
from harness.base.tensors import save_tensors
from harness.data import DATASETS
from harness.models.autoencoder import Decoder
from harness.scoring.features import Extractor
from harness.scoring.inputs import decoder_for, load_extractor, load_reference
from harness.scoring.records import write_record
from harness.scoring.reference import write_array
from harness.scoring.sample import load_network, sample_images
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Evaluate, Progress

SHARD = 512  # images whose features are kept together: what a kill can cost
PREVIEW = 16  # images kept beside a record, for looking and for Figure 7


def evaluate(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress
) -> None:
    """Scores one checkpoint under one protocol and writes the record.

    Raises:
        UserError: reference, extractor, decoder or weights are absent or do not fit: before
        anything is sampled.
        Interrupted: a signal came; finished shards stay.
    """
    began, run, protocol = time.perf_counter(), task.run, task.protocol
    extractor = load_extractor(protocol, cluster, rank.device)
    reference = load_reference(protocol, cluster, store, extractor, DATASETS[run.data].pixels)
    decode = decoder_for(run, protocol, cluster, rank.device)
    net = load_network(store, run, task.step, protocol.weights, rank.device, cluster.compile)
    shards = shard_paths(task, store)
    todo = [i for i, path in enumerate(shards) if not is_whole(path)]
    rank.wait()  # all have seen the same shards before the first new one appears
    for first in range(0, len(todo), rank.world):  # as many rounds on every rank
        for shard in todo[first + rank.index : first + rank.index + 1]:
            span = range(shard * SHARD, min(protocol.images, (shard + 1) * SHARD))
            score_shard(task, span, net, decode, extractor, cluster, rank, shards[shard])
        done = min(len(todo), first + rank.world)
        progress(f"{run.model} @ {task.step}: {protocol.name}", done / len(todo))
        if stop.asked(rank):
            raise Interrupted(
                f"{task.id} stopped after shard {done}: run the same command to go on"
            )
    rank.wait()
    if rank.is_main:
        seconds = time.perf_counter() - began
        write_record(task, store, shards, extractor, reference, rank, seconds)
    rank.wait()


def shard_paths(task: Evaluate, store: Store) -> list[Path]:
    """Where the features of each SHARD images of an evaluation lie."""
    folder = store.shards(task.run, task.step, task.protocol)
    return [folder / f"{i:05d}.safetensors" for i in range(-(-task.protocol.images // SHARD))]


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
    """Samples, decodes and measures the images of `span`; the features appear at once at `path`."""
    parts: list[dict[str, Tensor]] = []
    first: list[Tensor] = []
    for low in range(span.start, span.stop, cluster.sampling_batch):
        high = min(span.stop, low + cluster.sampling_batch)
        images = sample_images(net, decode, task, low, high, rank.device)
        first += [images[: max(0, PREVIEW - low)].cpu()]
        parts.append(extractor(images))
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if span.start == 0:
        tensors["preview"] = torch.cat(first)[:PREVIEW]
    save_tensors(path, tensors)


def write_samples(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, out: Path, progress: Progress
) -> None:
    """Writes the images of an evaluation as the npz that ADM's evaluator reads, batch by batch."""
    run, protocol = task.run, task.protocol
    decode = decoder_for(run, protocol, cluster, rank.device)
    net = load_network(store, run, task.step, protocol.weights, rank.device, cluster.compile)

    def batches() -> Iterator[Tensor]:
        for low in range(0, protocol.images, cluster.sampling_batch):
            high = min(protocol.images, low + cluster.sampling_batch)
            yield sample_images(net, decode, task, low, high, rank.device).cpu()
            progress(f"{run.model} @ {task.step}: {protocol.name}", high / protocol.images)

    write_array(out, batches(), protocol.images)
