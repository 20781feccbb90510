"""Averages that no run tracked, rebuilt from the snapshots of those it did."""

from __future__ import annotations

import hashlib
import json

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import is_whole, sha256
from harness.base.tensors import load_tensors
from harness.spec import Run
from harness.spec.ema import width_of, widths_of
from harness.spec.profiles import FARTHEST, Shares, shares
from harness.study.store import Store


def snapshots(store: Store, run: Run, step: int) -> list[int]:
    """The steps, up to `step`, at which every tracked average is kept."""
    return [
        s
        for s in store.steps(run)
        if s <= step and all(is_whole(store.weights(run, s, kind)) for kind in run.averages)
    ]


def shares_of(store: Store, run: Run, step: int, weights: str) -> tuple[list[int], Shares]:
    """The snapshots that an average is rebuilt from, and their shares.

    Raises:
        UserError: the averages of this step are not there, or too few are to come near.
    """
    steps, width = snapshots(store, run, step), width_of(weights)
    if step not in steps:
        raise UserError(
            f"{run.id} has no averages at step {step} to rebuild {weights} from: train it again"
        )
    found = shares(widths_of(run.ema), steps, width, step)
    if found.error > FARTHEST:
        raise UserError(
            f"{run.id}: {weights} at step {step} cannot be rebuilt from {len(steps)} snapshots of"
            f" {run.ema}: it would be off by {found.error:.0%}, at most {FARTHEST:.0%} is taken:"
            " keep more steps before, or take a width nearer to those"
        )
    return steps, found


def rebuilt(store: Store, run: Run, step: int, weights: str) -> tuple[dict[str, Tensor], str]:
    """The weights of an average, summed in float64, and a digest of what they were made from.

    Raises:
        UserError: see shares_of; or a snapshot is damaged.
    """
    steps, found = shares_of(store, run, step, weights)
    total: dict[str, Tensor] = {}
    files: dict[str, str] = {}
    for at, row in zip(steps, found.of, strict=True):
        for kind, share in zip(run.averages, row, strict=True):
            path = store.weights(run, at, kind)
            files[f"{kind}@{at}"] = sha256(path)
            for name, x in load_tensors(path).items():
                part = x.double() * float(share)
                total[name] = total[name].add_(part) if name in total else part
    made = json.dumps({"weights": weights, "from": files}, sort_keys=True)
    single = {name: x.to(torch.float32) for name, x in total.items()}
    return single, hashlib.sha256(made.encode()).hexdigest()


def rebuilt_warnings(store: Store, run: Run, step: int, weights: str) -> list[str]:
    """How far a rebuilt average is from the one it stands for; nothing of those kept as files."""
    if run.file_of(weights) is not None:
        return []
    steps, found = shares_of(store, run, step, weights)
    return [
        f"{weights} is rebuilt from {len(steps)} snapshots of {run.ema}, off by {found.error:.1%}"
    ]
