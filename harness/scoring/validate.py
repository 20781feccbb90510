"""Validation: the loss on held-out images over a fixed grid of (image, time, noise)."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.base import rng
from harness.base.distributed import Interrupted, Rank, Stop
from harness.base.errors import UserError
from harness.base.files import remove_leftovers, write_json
from harness.base.precision import autocast, matmul_precision
from harness.base.provenance import provenance
from harness.data import DATASETS, Dataset, held_out_path, open_held_out
from harness.data.origin import Origin, read_origin
from harness.scoring.averages import rebuilt_warnings
from harness.scoring.records import few_images
from harness.scoring.sample import load_network, refuse_not_finite
from harness.spec import BINS, Run, Validation
from harness.spec.own_rows import digests
from harness.study.cluster import Cluster
from harness.study.store import SCHEMA, Store
from harness.study.tasks import Evaluate, Progress


def validate(
    task: Evaluate,
    validation: Validation,
    store: Store,
    cluster: Cluster,
    rank: Rank,
    stop: Stop,
    progress: Progress,
) -> None:
    """Writes the record of a checkpoint's validation.

    Raises:
        UserError: held-out images or weights are absent or do not fit, or a loss is not finite.
        Interrupted: a signal came; nothing is kept, as all of it takes minutes.
    """
    began, run = time.perf_counter(), task.run
    record = store.record(run, task.step, validation)
    if rank.is_main:
        remove_leftovers(record.parent, f".{record.stem}.*")
    dataset = open_held_out(run.data, cluster.path(held_out_path(run.data)))
    refuse_other_images(run, store, dataset.origin)
    net, checkpoint = load_network(
        store, run, task.step, validation.weights, rank.device, cluster.compile
    )
    low, high = rank.share(validation.points)
    parts: list[Tensor] = []
    for first in range(low, high, cluster.sampling_batch):
        if stop.signals:
            break
        last = min(high, first + cluster.sampling_batch)
        parts.append(losses(net, run, validation, dataset, first, last, rank.device).cpu())
        progress(f"{run.model} @ {task.step}: {validation.name}", (last - low) / (high - low))
    if stop.asked(rank):
        raise Interrupted(f"{task.id} stopped: run the same command again")
    gathered = rank.gather(torch.cat(parts))
    if rank.is_main:
        terms = torch.cat(gathered)
        refuse_not_finite(terms, f"losses of {task.id}")
        found = {
            "schema": SCHEMA,
            "run": run.id,
            "step": task.step,
            "protocol": validation.id,
            "protocol_fields": validation.canonical(),
            "n": len(terms),
            **summary(terms, run.objective_row.terms, validation),
            "reference": reference(run, dataset),
            "checkpoint": checkpoint,
            "warnings": [
                *few_images(run, store),
                *few_held_out(run, dataset),
                *rebuilt_warnings(store, run, task.step, validation.weights),
            ],
            "seconds": round(time.perf_counter() - began, 3),
            "world": rank.world,
            **provenance(rank.device, digests(run)),
        }
        write_json(record, found, checksum=True)
    rank.wait()


def refuse_other_images(run: Run, store: Store, held_out: Origin) -> None:
    """Refuses held-out images that do not suit the run.

    Raises:
        UserError: the run was trained on the held-out images, or on latents of another encoder.
    """
    path = store.data(run)
    if not path.exists():
        return
    trained = read_origin(path)
    if trained.digest == held_out.digest:
        raise UserError(
            f"{run.id} was trained on the held-out images of {run.data}: set"
            f" paths.{held_out_path(run.data)} to others"
        )
    if differ := [key for key in trained.differences(held_out) if key in ("vae", "scale")]:
        raise UserError(
            f"held-out latents of {run.data} have another {' and '.join(differ)} than those"
            f" that {run.id} was trained on: encode them with the same VAE"
        )


def grid(validation: Validation, low: int, high: int) -> Tensor:
    """Positions in [0, 1) of the points low … high, float64: one in each of `points` equal parts.

    A position w stands for the time below which the share w² of training's times lies: the loss
    varies most where there is little noise. A point counts by dw²/dw, in proportion to w.
    """
    points, seed = validation.points, validation.seed
    part = rng.permuted(np.arange(low, high), points, rng.seed("validation", seed), 0)
    within = rng.uniform(low, high, "cpu", "validation", seed).double()
    return (torch.from_numpy(part) + within) / points


@torch.inference_mode()
def losses(
    net: nn.Module,
    run: Run,
    validation: Validation,
    dataset: Dataset,
    low: int,
    high: int,
    device: torch.device,
) -> Tensor:
    """The objective's terms of the points low … high, float64 [high - low, terms]."""
    key = ("validation", validation.seed)
    index = torch.arange(low, high) % len(dataset)
    x0, y = dataset.batch(index, low, device, *key)
    process = run.objective_row.process()
    if not hasattr(process, "quantiles"):  # a person's own row
        raise UserError(
            f"{validation.name}: objective {run.objective!r} has no quantiles(u): add it, or leave"
            " the validation out"
        )
    t = process.quantiles(grid(validation, low, high).square()).to(device)
    noise = rng.normal(low, high, tuple(x0.shape[1:]), device, "noise", *key)
    with matmul_precision(validation.precision), autocast(validation.precision, device):
        terms = process.losses(device)(net, x0, t, y, noise)
    return torch.stack([term.double() for term in terms], dim=1)


def summary(terms: Tensor, names: Sequence[str], validation: Validation) -> dict[str, Any]:
    """The values of a record, val_loss, val_loss_se, val_mse …, and the same by bins of time.

    terms: [points, terms] in the order of the grid.
    """
    position, order = grid(validation, 0, len(terms)).sort()
    columns = {"loss": terms.sum(1)} | dict(zip(names, terms.unbind(1), strict=True))
    by_time = {name: column[order] for name, column in columns.items()}
    bins = []
    for k in range(BINS):
        ends = torch.tensor([k / BINS, (k + 1) / BINS], dtype=torch.float64).sqrt()
        low, high = torch.searchsorted(position, ends).tolist()
        part = {name: x[low:high] for name, x in by_time.items()}
        shares = {"from": k / BINS, "to": (k + 1) / BINS}
        bins.append(shares | estimates(part, position[low:high]))
    values = {f"val_{name}": x for name, x in estimates(by_time, position).items()}
    return {"values": values, "bins": bins}


def estimates(columns: Mapping[str, Tensor], weights: Tensor) -> dict[str, float]:
    """The weighted mean of each [n], in the order of time, and as `_se` its standard error.

    Neighbours in time differ by image and noise alone: half the square of their difference is the
    variance of one (Cochran 1977, collapsed strata). Images come equally often, so that what
    differs between them is counted though it cancels: the error over grids is less than this.
    """
    found: dict[str, float] = {}
    for name, x in columns.items():
        share = weights * x / weights.sum()
        apart = (share[0 : len(x) // 2 * 2 : 2] - share[1::2]).square().sum()
        found |= {name: float(share.sum()), f"{name}_se": math.sqrt(float(apart))}
    return found


def reference(run: Run, dataset: Dataset) -> dict[str, Any]:
    """Which images these are."""
    origin = json.dumps(dataset.origin.to_json(), sort_keys=True)
    digest = hashlib.sha256(origin.encode()).hexdigest()
    return {"name": held_out_path(run.data), "digest": digest, "n": len(dataset)}


def few_held_out(run: Run, dataset: Dataset) -> list[str]:
    """A warning for a part of the held-out images."""
    whole = DATASETS[run.data].held_out
    if whole is None or len(dataset) == whole:
        return []
    return [f"validated on {len(dataset):,} of {run.data}'s {whole:,} held-out images"]
