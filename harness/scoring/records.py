"""The record of an evaluation: the values of all shards, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.files import atomic_write, is_intact, read_json, write_json
from harness.base.provenance import provenance
from harness.base.tensors import load_tensors
from harness.data import DATASETS
from harness.data.index import incomplete
from harness.data.origin import read_origin
from harness.metrics import default_names, row_names
from harness.metrics.reference import Features
from harness.metrics.values import values, warnings
from harness.scoring.averages import rebuilt_warnings
from harness.scoring.inputs import Inputs, decoder_warnings
from harness.scoring.picture import strips
from harness.scoring.sample import labels
from harness.spec import Run
from harness.spec.own_rows import digests
from harness.study.store import SCHEMA, Store
from harness.study.tasks import Evaluate


def few_images(run: Run, store: Store) -> list[str]:
    """A warning for a run that was trained on a part of its dataset."""
    path = store.data(run)
    notice = incomplete(run.data, read_origin(path).images) if path.exists() else ""
    return [f"trained on {notice}"] if notice else []


def foreign(run: Run, step: int, store: Store) -> list[str]:
    """Warnings for weights that were not trained here."""
    path = store.imported(run, step)
    if not path.exists():
        return []
    note = read_json(path)
    source = f"imported from {Path(note['source']).name}, SHA-256 {note['digest'][:12]}"
    return [source, *filter(None, [note["caution"]])]


def write_record(
    task: Evaluate,
    store: Store,
    shards: list[Path],
    inputs: Inputs,
    rank: Rank,
    seconds: float,
) -> None:
    """Writes the preview and the record of a finished evaluation, or adds to a record.

    Raises:
        UserError: the record that is there was taken with another extractor or reference.
    """
    run, protocol = task.run, task.sampling
    path, features = store.record(run, task.step, protocol), gathered(task, shards, inputs)
    extractor, reference = inputs.extractor, inputs.reference
    added = is_intact(path)
    if added:
        names = tuple(store.lacking(run, task.step, protocol))
    else:
        names = default_names(extractor.name, features)
        names += tuple(name for name in protocol.metrics if name not in names)
    made = {
        "seconds": round(seconds, 3),
        "world": rank.world,
        **provenance(rank.device, digests(run, protocol, metrics=row_names(names))),
    }
    if added:
        more = values(features, reference, names)
        write_json(path, extended(task, path, inputs, more, made), checksum=True)
        return
    decoder = {"decoder_digest": inputs.decoder_digest} if inputs.decoder_digest else {}
    record = {
        "schema": SCHEMA,
        "run": run.id,
        "step": task.step,
        "protocol": protocol.id,
        "protocol_fields": protocol.canonical(),
        "sampled": protocol.sampled,
        "measured": protocol.measured,
        "source": task.source,
        "n": protocol.images,
        "values": values(features, reference, names),
        **digests_of(inputs),
        "checkpoint": inputs.checkpoint,
        **decoder,
        "warnings": [
            *extractor.warnings,
            *warnings(protocol.images, extractor.layers),
            *few_images(run, store),
            *foreign(run, task.step, store),
            *rebuilt_warnings(store, run, task.step, protocol.weights),
            *decoder_warnings(protocol.decoder, inputs.decoder_digest),
        ],
        **made,
    }
    write_preview(store.preview(run, task.step, protocol), task, shards[0])
    write_json(path, record, checksum=True)


def gathered(task: Evaluate, shards: list[Path], inputs: Inputs) -> Features:
    """The features of all images by layer, and "labels" [N, 1]."""
    images = task.sampling.images
    # Layer by layer: 50,000 images have 1 GB of features, and would have two for a moment.
    features = {
        name: torch.cat([load_tensors(shard, prefix=name)[name] for shard in shards])[:images]
        for name in inputs.extractor.layers
    }
    classes = DATASETS[task.run.data].classes
    return features | {"labels": labels(task.sampling, classes, 0, images)[:, None]}


def digests_of(inputs: Inputs) -> dict[str, Any]:
    """The entries of a record for what measured the images."""
    extractor, reference = inputs.extractor, inputs.reference
    return {
        "extractor": {"name": extractor.name, "digest": extractor.digest},
        "reference": {"name": reference.name, "digest": reference.digest, "n": reference.n},
    }


def extended(
    task: Evaluate, path: Path, inputs: Inputs, more: dict[str, float], made: dict[str, Any]
) -> dict[str, Any]:
    """A record with more values; what it holds stays, and `added` says how these were made.

    Raises:
        UserError: it was taken with another extractor or reference.
    """
    record = read_json(path)
    for part, now in digests_of(inputs).items():
        if record.get(part, {}).get("digest") != now["digest"]:
            raise UserError(
                f"{path} was taken with another {part} than {now['name']} {now['digest'][:12]}: use"
                " that one, or move the record away, and harness run scores it again"
            )
    entry = {"values": [*more], "source": task.source, **made}
    values = record["values"] | more
    return record | {"values": values, "added": [*record.get("added", []), entry]}


def write_preview(path: Path, task: Evaluate, shard: Path) -> None:
    """Writes the first images of an evaluation, uint8 [N, H, W, C], and their labels [N].

    Clips are strips of their frames, and as many as make that number of frames.
    """
    stored = load_tensors(shard, prefix="preview")["preview"]
    if stored.ndim == 5:
        stored = stored[: max(1, len(stored) // stored.shape[2])]
    images = strips(stored).permute(0, 2, 3, 1).numpy()
    shown = labels(task.sampling, DATASETS[task.run.data].classes, 0, len(images)).numpy()
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, images=images, labels=shown)
