"""Images → shards of latents or pixels: whole ones are never made twice, none is half-written."""

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
from harness.base.files import atomic_write, sha256, write_json
from harness.base.prefetch import prefetch
from harness.base.provenance import provenance
from harness.data import DATASETS
from harness.data import index as files
from harness.data.checks import refuse_unreadable
from harness.data.index import Index
from harness.encoding.images import decoded
from harness.encoding.shards import Note, encoder, read_note, squares, write_shard
from harness.encoding.sources import Source, open_source
from harness.models.autoencoder import encoder_digest, load_vae
from harness.spec import ENCODERS
from harness.study.cluster import Cluster
from harness.study.tasks import Encode, Progress

# Pixels of one batch: with its mirror images 5 GB of activations, whatever the size of an image.
PIXELS = 16 * 256 * 256


def encode(task: Encode, cluster: Cluster, rank: Rank, stop: Stop, progress: Progress) -> None:
    """Writes the shards of `task` that are missing, and index.json last.

    Raises:
        UserError: before anything is encoded: images, weights or earlier shards do not fit, or the
            disk is too small; at the end: some images were unreadable.
        Interrupted: a signal came; finished shards stay.
    """
    out, source, data = Path(task.out), open_source(Path(task.source)), DATASETS[task.data]
    check(task, source)
    vae = load_vae(task.vae, cluster.path(task.vae)) if data.latent else None
    made, total = settings(task, source, vae), len(source.names)
    spans = [range(low, min(total, low + task.shard)) for low in range(0, total, task.shard)]
    notes = {i: note for i, span in enumerate(spans) if (note := finished(out, i, span, made))}
    missing = [i for i in range(len(spans)) if i not in notes]
    if rank.is_main:
        make_room(out, sum(len(spans[i]) for i in missing) * bytes_per_row(task))
    rank.wait()  # all ranks have seen the same shards, before the first new one appears

    # Decoding, encoding and writing go on at the same time, and on from shard to shard.
    mine = missing[rank.index :: rank.world]
    images = decoded(
        source,
        chain(*(spans[i] for i in mine)),
        data.pixels,
        decoding_threads(cluster),
        "RGB" if data.colours == 3 else "L",
    )
    measure = squares(made["shape"])
    if vae:
        measure = encoder(vae.to(rank.device), rank.device, made["shape"])
    size = max(1, PIXELS // data.pixels**2)
    batches = prefetch(
        (measure(list(islice(images, n))) for i in mine for n in batch_sizes(spans[i], size)),
        rank.device,
    )
    for turn in range(-(-len(missing) // rank.world)):  # as many on every rank: they stop together

        def report(share: float, turn: int = turn) -> None:
            progress(f"{task.data}: shard {turn + 1} of {len(mine)}", (turn + share) / len(mine))

        with contextlib.suppress(Interrupted):  # raised below, when all ranks know
            for i in mine[turn : turn + 1]:
                notes[i] = write_shard(out, i, spans[i], batches, made, stop, report)
        if stop.asked(rank):
            raise Interrupted(
                f"{task.id} stopped; whole shards are kept: run the same command to continue"
            )
    gathered = rank.gather(notes)  # not read from disk: another node's files may show up late
    if rank.is_main:
        write_index(task, source, made, {i: note for x in gathered for i, note in x.items()}, rank)
    rank.wait()
    if rank.is_main:
        refuse_unreadable(out)


def check(task: Encode, source: Source) -> None:
    """Checks the classes and labels of the source against the dataset.

    Raises:
        UserError: these cannot be images of the dataset.
    """
    data, classes = DATASETS[task.data], len(source.classes)
    if 0 < data.classes < classes:
        raise UserError(
            f"{task.source} has {classes:,} classes, {task.data} has {data.classes:,}: a class is a"
            " folder right below it; name that folder, or another --data"
        )
    if bad := np.flatnonzero((source.labels < 0) | (source.labels >= classes)).tolist():
        raise UserError(
            f"{task.source}: {len(bad)} labels are out of 0 … {classes - 1}, the first is the"
            f" {source.labels[bad[0]]} of {source.names[bad[0]]}: fix them"
        )


def settings(task: Encode, source: Source, vae: Any) -> dict[str, Any]:
    """What the shards of one folder have in common.

    Raises:
        UserError: the VAE makes latents of another shape than the dataset's.
    """
    data = DATASETS[task.data]
    made: dict[str, Any] = {
        "data": task.data,
        "rows": len(source.names),
        "shard": task.shard,
        "shape": files.shape(task.data),
        "dtype": files.dtype(task.data),
        "vae": {"name": task.vae, "encoder": task.vae, "digest": ""},
        "scale": 1.0,
        "crop": files.CROP,
        "pixels": data.pixels,
        "listing": source.digest(),
    }
    if vae is None:
        return made
    config = vae.config
    side = data.pixels // 2 ** (len(config.block_out_channels) - 1)
    if (config.latent_channels, side) != (data.channels, data.size):
        raise UserError(
            f"VAE {task.vae!r} makes {config.latent_channels} × {side} × {side} of {data.pixels}"
            f" pixels, {task.data} has {data.channels} × {data.size} × {data.size}: set"
            f" paths.{task.vae} to the weights it names"
        )
    made["vae"] |= {"encoder": ENCODERS[task.vae], "digest": encoder_digest(vae)}
    return made | {"scale": config.scaling_factor}


def finished(out: Path, shard: int, span: range, made: dict[str, Any]) -> Note | None:
    """The note of a shard that is whole, else None.

    Raises:
        UserError: the note is damaged, or the shard was made another way.
    """
    path = files.shard_path(out, shard)
    if not (path.exists() and files.note_path(out, shard).exists()):
        return None
    note = read_note(out, shard, span)
    if differ := [key for key in made if note.made.get(key) != made[key]]:
        was, now = ({key: x.get(key) for key in differ} for x in (note.made, made))
        raise UserError(
            f"{path} was made with {was}, now asked is {now}: choose another --out, or move {out}"
            " away"
        )
    return note if path.stat().st_size == note.bytes else None


def bytes_per_row(task: Encode) -> int:
    size = np.dtype(files.dtype(task.data)).itemsize
    return size * int(np.prod(files.shape(task.data)))


def make_room(out: Path, needed: int) -> None:
    """Removes what killed writers left, and checks that the missing shards have room.

    Raises:
        UserError: they have not.
    """
    shards = files.shard_path(out, 0).parent
    shards.mkdir(parents=True, exist_ok=True)
    leftovers = [files.index_path(out), files.labels_path(out)]
    patterns = [f".{path.name}.*" for path in leftovers]  # `out` may hold a user's own dot files
    for path in (*shards.glob(".*"), *(path for name in patterns for path in out.glob(name))):
        path.unlink()
    if (free := shutil.disk_usage(out).free) < needed:
        raise UserError(
            f"{out} has {free / 1e9:.1f} GB free, the latents need {needed / 1e9:.1f}: free some"
            " space"
        )


def decoding_threads(cluster: Cluster) -> int:
    """This rank's share of the CPUs."""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return cluster.cpus_per_task or max(1, len(os.sched_getaffinity(0)) // ranks)


def batch_sizes(span: range, size: int) -> list[int]:
    """The sizes of a shard's batches: none reaches into the next shard."""
    return [min(size, span.stop - low) for low in range(span.start, span.stop, size)]


def write_index(
    task: Encode, source: Source, made: dict[str, Any], notes: dict[int, Note], rank: Rank
) -> None:
    """Writes labels.npy, and then index.json, which marks the latents as complete."""
    out = Path(task.out)
    labels = files.labels_path(out)
    with atomic_write(labels) as beside, beside.open("wb") as file:
        np.save(file, source.labels if DATASETS[task.data].classes else 0 * source.labels)
    index = Index(
        schema=files.SCHEMA,
        **made,
        classes=source.classes,
        source=task.source,
        shards=[
            file_entry(out, files.shard_path(out, i), notes[i].bytes, notes[i].sha256)
            for i in sorted(notes)
        ],
        unreadable=[
            {**bad, "name": source.names[bad["row"]]}
            for i in sorted(notes)
            for bad in notes[i].unreadable
        ],
        labels=file_entry(out, labels, labels.stat().st_size, sha256(labels)),
        made=provenance(rank.device, {}),
    )
    write_json(files.index_path(out), asdict(index), checksum=True)


def file_entry(out: Path, path: Path, size: int, digest: str) -> dict[str, Any]:
    return {"file": str(path.relative_to(out)), "bytes": size, "sha256": digest}
