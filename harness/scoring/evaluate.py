"""One evaluation: images → features, shard by shard → a record. Finished shards are kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.tensors import load_tensors, save_tensors
from harness.metrics.reference import Features
from harness.scoring.arrays import write_array
from harness.scoring.inputs import Inputs, load_decoder, load_inputs, with_network
from harness.scoring.records import write_record
from harness.scoring.sample import (
    decoded_images,
    load_network,
    refuse_not_finite,
    sample_images,
    sample_latents,
)
from harness.scoring.shards import code_of, remove_temporary, shard_paths, to_do
from harness.spec.own_rows import digests
from harness.study.cluster import Cluster
from harness.study.store import Store, shard_spans
from harness.study.tasks import NETWORK, Evaluate, Progress

PREVIEW = 16  # images kept beside a record, for looking and for Figure 7


def evaluate(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress
) -> None:
    """Scores one checkpoint under one protocol: writes the record, or adds to it what it lacks.

    Of images whose features are kept nothing is made again, and of those whose latents are kept the
    network is not run.

    Raises:
        UserError: reference, extractor, decoder or weights are absent or do not fit: before
        anything is sampled.
        Interrupted: a signal came; finished shards stay.
    """
    began, run, protocol = time.perf_counter(), task.run, task.sampling
    inputs = load_inputs(task, store, cluster, rank.device)
    if rank.is_main:
        remove_temporary(task, store)
    work, again = find_work(task, store, inputs)
    if work.needs_network and inputs.net is None:
        rank.wait()  # all have looked
        if rank.is_main:
            work.remove_unusable()  # should there be no weights, the plan then asks for them
        rank.wait()
        inputs = with_network(inputs, task, store, cluster, rank.device)
        work, more = find_work(task, store, inputs)
        again += more
    if rank.any(len({str(one) for one in rank.gather(work.origin)}) > 1):
        raise UserError(f"{task.id}: ranks read other weights or code: give all nodes the same")
    for line in again:
        progress(f"{task.id}: {line}", 0.0)
    rank.wait()  # all have seen the same shards before the first new one appears
    task, todo = replace(task, source=work.source), work.todo
    for first in range(0, len(todo), rank.world):  # as many rounds on every rank
        for number in todo[first + rank.index : first + rank.index + 1]:
            score_shard(task, number, inputs, cluster, rank, stop, work)
        if stop.asked(rank):  # a rank without a signal has finished its shard, and leaves as well
            raise Interrupted(f"{task.id} stopped: run the same command to continue")
        done = min(len(todo), first + rank.world)
        progress(f"{run.model} @ {task.step}: {protocol.name}", done / len(todo))
    rank.wait()
    if rank.is_main:
        write_record(task, store, work.features, inputs, rank, time.perf_counter() - began)
        if "features" not in task.keep:
            shutil.rmtree(work.features[0].parent)
    rank.wait()


@dataclass(frozen=True)
class Work:
    """The shards of an evaluation: where they lie, what they are of, and which are to be made."""

    features: list[Path]
    latents: list[Path]
    origin: dict[str, str]
    todo: list[int]  # whose features are to be made
    drawn: set[int]  # whose latents are kept

    @property
    def needs_network(self) -> bool:
        return not self.drawn.issuperset(self.todo)

    @property
    def source(self) -> str:
        """What the score is computed from."""
        return NETWORK if self.needs_network else "latents" if self.todo else "features"

    def remove_unusable(self) -> None:
        """Removes the shards that are there and cannot be used."""
        for number in self.todo:
            self.features[number].unlink(missing_ok=True)
            if number not in self.drawn:
                self.latents[number].unlink(missing_ok=True)


def find_work(task: Evaluate, store: Store, inputs: Inputs) -> tuple[Work, list[str]]:
    """The shards to make, and a line for each existing shard that cannot be used."""
    cell, images = (task.run, task.step, task.sampling), task.sampling.images
    features = shard_paths(store.shards(*cell), images)
    latents = shard_paths(store.latents(*cell), images)
    origin = origin_of(task, inputs)
    todo, again = to_do(features, images, origin, next(iter(inputs.extractor.layers)))
    drawn = set(range(len(latents))) if todo else set()
    if drawn:
        drawn -= set(to_do(latents, images, latent_origin(origin), "latents")[0])
    return Work(features, latents, origin, todo, drawn), again


def origin_of(task: Evaluate, inputs: Inputs) -> dict[str, str]:
    """What the features of a shard depend on."""
    return {
        "sampled": task.sampling.sampled,
        "weights": inputs.checkpoint,
        "decoder": inputs.decoder_digest,
        "extractor": inputs.extractor.digest,
        "code": code_of(task.run),
        **digests(task.protocol),
    }


def latent_origin(origin: Mapping[str, str]) -> dict[str, str]:
    """What the latents of a shard depend on."""
    return {key: origin[key] for key in ("sampled", "weights", "code")}


def score_shard(
    task: Evaluate,
    number: int,
    inputs: Inputs,
    cluster: Cluster,
    rank: Rank,
    stop: Stop,
    work: Work,
) -> None:
    """Makes and measures the images of a shard; its features appear at once, after its latents.

    A signal drops the shard after the batch in progress: Slurm gives two minutes, and a shard of
    XL/2 at 512 pixels takes 44 on an A100.
    """
    span = shard_spans(task.sampling.images)[number]
    kept = load_tensors(work.latents[number])["latents"] if number in work.drawn else None
    parts: list[Features] = []
    made: list[Tensor] = []
    first: list[Tensor] = []
    for low in range(span.start, span.stop, cluster.sampling_batch):
        if stop.signals:
            return
        high = min(span.stop, low + cluster.sampling_batch)
        if kept is not None:
            latents = kept[low - span.start : high - span.start].to(rank.device)
        else:
            assert inputs.net is not None, task.id
            latents = sample_latents(inputs.net, task, low, high, rank.device)
            made.append(latents.cpu())
        images = decoded_images(inputs.decode, task, latents)
        first += [images[: max(0, PREVIEW - low)].cpu()]
        parts.append(inputs.extractor(images))
    tensors = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for name, rows in tensors.items():
        refuse_not_finite(rows, f"{name} features of {task.id}")
    if span.start == 0:
        tensors["preview"] = torch.cat(first)[:PREVIEW]
    if made and "latents" in task.keep:
        save_tensors(work.latents[number], {"latents": torch.cat(made)}, latent_origin(work.origin))
    save_tensors(work.features[number], tensors, work.origin)


def write_samples(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, out: Path, progress: Progress
) -> None:
    """Writes the images of an evaluation as the npz that ADM's evaluator reads, batch by batch."""
    count = task.sampling.images
    write_array(out, image_batches(task, store, cluster, rank, count, progress), count)


def image_batches(
    task: Evaluate, store: Store, cluster: Cluster, rank: Rank, count: int, progress: Progress
) -> Iterator[Tensor]:
    """The first `count` images of an evaluation, uint8 [N, 1 or 3, H, W] on the CPU."""
    run, protocol = task.run, task.sampling
    decode, _ = load_decoder(run, protocol, cluster, rank.device)
    net, _ = load_network(store, run, task.step, protocol.weights, rank.device, cluster.compile)
    for low in range(0, count, cluster.sampling_batch):
        high = min(count, low + cluster.sampling_batch)
        yield sample_images(net, decode, task, low, high, rank.device).cpu()
        progress(f"{run.model} @ {task.step}: {protocol.name}", high / count)
