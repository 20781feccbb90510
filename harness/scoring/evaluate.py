"""One evaluation: images → features, shard by shard → a record. Finished shards are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.tensors import save_tensors
from harness.metrics.reference import Features
from harness.scoring.arrays import write_array
from harness.scoring.inputs import Inputs, load_decoder, load_inputs
from harness.scoring.records import write_record
from harness.scoring.sample import load_network, refuse_not_finite, sample_images
from harness.scoring.shards import RECIPE, SHARD, remove_temporary, shard_paths, to_do
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.study.tasks import Evaluate, Progress

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
    inputs = load_inputs(task, store, cluster, rank.device)
    origin = origin_of(task, inputs)
    if rank.any(len({str(one) for one in rank.gather(origin)}) > 1):
        raise UserError(f"{task.id}: ranks read other weights or code: give all nodes the same")
    shards = shard_paths(task, store)
    if rank.is_main:
        remove_temporary(task, store)
    todo, again = to_do(shards, origin)
    for line in again:
        progress(f"{task.id}: {line}", 0.0)
    rank.wait()  # all have seen the same shards before the first new one appears
    for first in range(0, len(todo), rank.world):  # as many rounds on every rank
        for shard in todo[first + rank.index : first + rank.index + 1]:
            span = range(shard * SHARD, min(protocol.images, (shard + 1) * SHARD))
            score_shard(task, span, inputs, cluster, rank, stop, shards[shard], origin)
        if stop.asked(rank):  # a rank without a signal has finished its shard, and leaves as well
            raise Interrupted(f"{task.id} stopped: run the same command to go on")
        done = min(len(todo), first + rank.world)
        progress(f"{run.model} @ {task.step}: {protocol.name}", done / len(todo))
    rank.wait()
    if rank.is_main:
        write_record(task, store, shards, inputs, rank, time.perf_counter() - began)
    rank.wait()


def origin_of(task: Evaluate, inputs: Inputs) -> dict[str, str]:
    """What the features of a shard depend on."""
    return {
        "protocol": task.protocol.id,
        "weights": inputs.checkpoint,
        "decoder": inputs.decoder_digest,
        "extractor": inputs.extractor.digest,
        "code": RECIPE,
    }


def score_shard(
    task: Evaluate,
    span: range,
    inputs: Inputs,
    cluster: Cluster,
    rank: Rank,
    stop: Stop,
    path: Path,
    origin: dict[str, str],
) -> None:
    """Samples, decodes and measures the images of `span`; the features appear at once at `path`.

    A signal drops the shard after the batch in progress: Slurm gives two minutes, and a shard of
    XL/2 at 512 pixels takes 44 on an A100.
    """
    parts: list[Features] = []
    first: list[Tensor] = []
    for low in range(span.start, span.stop, cluster.sampling_batch):
        if stop.signals:
            return
        high = min(span.stop, low + cluster.sampling_batch)
        images = sample_images(inputs.net, inputs.decode, task, low, high, rank.device)
        first += [images[: max(0, PREVIEW - low)].cpu()]
        parts.append(inputs.extractor(images))
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for name, rows in tensors.items():
        refuse_not_finite(rows, f"{name} features of {task.id}")
    if span.start == 0:
        tensors["preview"] = torch.cat(first)[:PREVIEW]
    save_tensors(path, tensors, origin)


def write_samples(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, out: Path, progress: Progress
) -> None:
    """Writes the images of an evaluation as the npz that ADM's evaluator reads, batch by batch."""
    count = task.protocol.images
    write_array(out, image_batches(task, store, cluster, rank, count, progress), count)


def image_batches(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, count: int, progress: Progress
) -> Iterator[Tensor]:
    """The first `count` images of an evaluation, uint8 [N, 1 or 3, H, W] on the CPU."""
    run, protocol = task.run, task.protocol
    decode, _ = load_decoder(run, protocol, cluster, rank.device)
    net, _ = load_network(store, run, task.step, protocol.weights, rank.device, cluster.compile)
    for low in range(0, count, cluster.sampling_batch):
        high = min(count, low + cluster.sampling_batch)
        yield sample_images(net, decode, task, low, high, rank.device).cpu()
        progress(f"{run.model} @ {task.step}: {protocol.name}", high / count)
