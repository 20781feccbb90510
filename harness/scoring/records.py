"""The record of an evaluation: the values of all shards, and where they come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch

from harness.base.distributed import Rank
from harness.base.files import atomic_write, write_json
from harness.base.provenance import provenance
from harness.base.tensors import load_tensors
from harness.data import DATASETS
from harness.data.index import incomplete
from harness.data.origin import read_origin
from harness.metrics import default_names, row_names
from harness.metrics.values import values, warnings
from harness.scoring.inputs import Inputs, decoder_warnings
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


def write_record(
    task: Evaluate,
    store: Store,
    shards: list[Path],
    inputs: Inputs,
    rank: Rank,
    seconds: float,
) -> None:
    """Writes the preview and the record of a finished evaluation, then removes its shards."""
    run, protocol = task.run, task.protocol
    # Layer by layer: 50,000 images have 1 GB of features, and would have two for a moment.
    gathered = {
        n: torch.cat([load_tensors(shard, prefix=n)[n] for shard in shards])
        for n in inputs.extractor.layers
    }
    classes, n = DATASETS[run.data].classes, len(next(iter(gathered.values())))
    gathered["labels"] = labels(protocol, classes, 0, n)[:, None]
    extractor, reference = inputs.extractor, inputs.reference
    decoder = {"decoder_digest": inputs.decoder_digest} if inputs.decoder_digest else {}
    names = default_names(extractor.name, gathered)
    record = {
        "schema": SCHEMA,
        "run": run.id,
        "step": task.step,
        "protocol": protocol.id,
        "protocol_fields": protocol.canonical(),
        "n": n,
        "values": values(gathered, reference, names),
        "extractor": {"name": extractor.name, "digest": extractor.digest},
        "reference": {"name": reference.name, "digest": reference.digest, "n": reference.n},
        "checkpoint": inputs.checkpoint,
        **decoder,
        "warnings": [
            *extractor.warnings,
            *warnings(n, extractor.layers),
            *few_images(run, store),
            *decoder_warnings(protocol.decoder, inputs.decoder_digest),
        ],
        "seconds": round(seconds, 3),
        "world": rank.world,
        **provenance(rank.device, digests(run, protocol, metrics=row_names(names))),
    }
    write_preview(store.preview(run, task.step, protocol), task, shards[0])
    write_json(store.record(run, task.step, protocol), record, checksum=True)
    shutil.rmtree(shards[0].parent)


def write_preview(path: Path, task: Evaluate, shard: Path) -> None:
    """Writes the first images of an evaluation, uint8 [N, H, W, C], and their labels [N]."""
    images = load_tensors(shard, prefix="preview")["preview"].permute(0, 2, 3, 1).numpy()
    shown = labels(task.protocol, DATASETS[task.run.data].classes, 0, len(images)).numpy()
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, images=images, labels=shown)
