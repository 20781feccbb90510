"""Images → latents, shard by shard: what is finished is never repeated, and nothing is half-written."""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.files import atomic_write, read_json, sha256, write_json
from harness.base.prefetch import prefetch
from harness.base.provenance import provenance
from harness.data import DATASETS
from harness.data import index as files
from harness.data.index import Index, refuse_unreadable
from harness.encoding.images import Source, decoded, open_source
from harness.encoding.shards import Note, encoder, write_shard
from harness.models.autoencoder import encoder_digest, load_vae
from harness.spec import ENCODERS
from harness.study.cluster import Cluster
from harness.study.tasks import Encode, Progress

PIXELS = (
    16 * 256 * 256
)  # of one batch: with its mirror images 5 GB of activations, whatever the size of an image


def encode(task: Encode, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress) -> None:
    """Writes what is missing of the latents that `task` asks for; index.json comes last.

    Raises:
        ValueError: images, weights or earlier shards do not fit, or the disk is too small: before
        anything is encoded;
            or, at the end, some images were unreadable.
        Interrupted: a signal came; finished shards stay.
    """
    out, source, data = Path(task.out), open_source(Path(task.source)), DATASETS[task.data]
    check(task, source)
    vae = load_vae(task.vae, cluster.path(task.vae))
    made, total = settings(task, source, vae), len(source.names)
    spans = [range(low, min(total, low + task.shard)) for low in range(0, total, task.shard)]
    notes = {i: note for i in range(len(spans)) if (note := finished(out, i, made))}
    todo = [i for i in range(len(spans)) if i not in notes]
    if rank.is_main:
        make_room(out, sum(len(spans[i]) for i in todo) * bytes_a_row(task))
    rank.wait()  # all have seen the same shards, and what was left lying is gone, before the first new one appears

    # Decoding, encoding and writing go on at the same time, and on from shard to shard.
    mine = todo[rank.index :: rank.world]
    images = decoded(
        source, chain(*(spans[i] for i in mine)), data.pixels, decoding_threads(cluster)
    )
    measure = encoder(vae.to(rank.device), rank.device, made["shape"])
    size = max(1, PIXELS // data.pixels**2)
    made_up = (measure(list(islice(images, n))) for i in mine for n in batch_sizes(spans[i], size))
    batches = prefetch(made_up, rank.device)
    for turn in range(-(-len(todo) // rank.world)):  # as many on every rank: they stop together

        def news(share: float, turn: int = turn) -> None:
            progress(f"{task.data}: shard {turn + 1} of {len(mine)}", (turn + share) / len(mine))

        with contextlib.suppress(Interrupted):  # told below, when all ranks know
            notes |= {
                i: write_shard(out, i, spans[i], batches, made, stop, news)
                for i in mine[turn : turn + 1]
            }
        if stop.asked(rank):
            raise Interrupted(
                f"{task.id} stopped; whole shards are kept: run the same command to go on"
            )
    gathered = rank.gather(notes)  # and not from the disk: what another node wrote may show late
    if rank.is_main:
        write_index(
            task, source, made, {i: note for part in gathered for i, note in part.items()}, rank
        )
    rank.wait()
    if rank.is_main:
        refuse_unreadable(out)


def check(task: Encode, source: Source) -> None:
    """
    Raises:
        ValueError: these cannot be images of the dataset.
    """
    data, classes = DATASETS[task.data], len(source.classes)
    if classes > data.classes:
        raise UserError(
            f"{task.source} has {classes:,} classes, {task.data} has {data.classes:,}: a class is a folder right below"
            " it; name that folder, or another --data"
        )
    if bad := np.flatnonzero((source.labels < 0) | (source.labels >= classes)).tolist():
        raise UserError(
            f"{task.source}: {len(bad)} labels are out of 0 … {classes - 1}, the first is the"
            f" {source.labels[bad[0]]} of {source.names[bad[0]]}: mend them"
        )


def settings(task: Encode, source: Source, vae: Any) -> dict[str, Any]:
    """What the shards of one folder have in common.

    Raises:
        ValueError: the VAE makes latents of another shape than the dataset's.
    """
    data, config = DATASETS[task.data], vae.config
    side = data.pixels // 2 ** (len(config.block_out_channels) - 1)
    if (config.latent_channels, side) != (data.channels, data.size):
        raise UserError(
            f"VAE {task.vae!r} makes {config.latent_channels} × {side} × {side} of {data.pixels} pixels, {task.data}"
            f" has {data.channels} × {data.size} × {data.size}: set paths.{task.vae} to the weights it names"
        )
    return {
        "data": task.data,
        "rows": len(source.names),
        "shard": task.shard,
        "shape": files.shape(task.data),
        "dtype": "float16",
        "vae": {"name": task.vae, "encoder": ENCODERS[task.vae], "digest": encoder_digest(vae)},
        "scale": config.scaling_factor,
        "crop": files.CROP,
        "pixels": data.pixels,
        "listing": source.digest(),
    }


def finished(out: Path, shard: int, made: dict[str, Any]) -> Note | None:
    """What lies beside the shard, where it is whole.

    Raises:
        ValueError: it was made another way.
    """
    path, beside = files.shard_path(out, shard), files.note_path(out, shard)
    if not (path.exists() and beside.exists()):
        return None
    note = read_json(beside)
    if differ := [key for key in made if note["made"].get(key) != made[key]]:
        was, now = ({key: x.get(key) for key in differ} for x in (note["made"], made))
        raise UserError(
            f"{path} was made with {was}, now asked is {now}: choose another --out, or move {out} away"
        )
    return note if path.stat().st_size == note["bytes"] else None


def bytes_a_row(task: Encode) -> int:
    return 2 * int(np.prod(files.shape(task.data)))


def make_room(out: Path, needed: int) -> None:
    """Takes away what a killed writer left, and sees that the rest has room.

    Raises:
        ValueError: it has not.
    """
    shards = files.shard_path(out, 0).parent
    shards.mkdir(parents=True, exist_ok=True)
    for path in shards.glob(".*"):
        path.unlink()
    if (free := shutil.disk_usage(out).free) < needed:
        raise UserError(
            f"{out} has {free / 1e9:.1f} GB free, the latents need {needed / 1e9:.1f}: free some space"
        )


def decoding_threads(cluster: Cluster) -> int:
    """This rank's part of the CPUs."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return cluster.cpus_per_task or max(1, len(os.sched_getaffinity(0)) // ranks)


def batch_sizes(span: range, size: int) -> list[int]:
    """A batch lies in one shard."""
    return [min(size, span.stop - low) for low in range(span.start, span.stop, size)]


def write_index(
    task: Encode, source: Source, made: dict[str, Any], notes: dict[int, Note], rank: Rank
) -> None:
    """labels.npy, and then what says that all is there."""
    out = Path(task.out)
    with atomic_write(files.labels_path(out)) as beside, beside.open("wb") as file:
        np.save(file, source.labels)
    paths = [files.shard_path(out, i) for i in sorted(notes)]
    shards = [
        part(out, path, notes[i]["bytes"], notes[i]["sha256"]) for i, path in enumerate(paths)
    ]
    labels = files.labels_path(out)
    unreadable = [
        {**bad, "name": source.names[bad["row"]]}
        for i in sorted(notes)
        for bad in notes[i]["unreadable"]
    ]
    index = Index(
        schema=files.SCHEMA,
        **made,
        classes=source.classes,
        source=task.source,
        shards=shards,
        unreadable=unreadable,
        labels=part(out, labels, labels.stat().st_size, sha256(labels)),
        made=provenance(rank.device),
    )
    write_json(files.index_path(out), asdict(index))


def part(out: Path, path: Path, size: int, digest: str) -> dict[str, Any]:
    return {"file": str(path.relative_to(out)), "bytes": size, "sha256": digest}
