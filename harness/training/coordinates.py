"""Coordinates: how large every activation is over widths and first steps; muP keeps them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.data import Dataset, open_dataset
from harness.models import MODELS
from harness.spec import PARAMETRIZATIONS, Run
from harness.study.cluster import Cluster
from harness.training.loop import make_batch
from harness.training.step import new_state, stepper

HEADS = (4, 6, 8, 10, 12, 16, 20)  # narrower ones are off their limit: docs/mup.md
Rows = list[dict[str, Any]]


class Check(NamedTuple):
    """What is checked: fields of a run, widths as heads, steps and seeds."""

    fields: dict[str, Any]
    heads: Sequence[int] = HEADS
    steps: int = 4
    seeds: int = 3

    @property
    def names(self) -> dict[str, int]:
        """Heads by the name that the row of that width has while the check runs."""
        return {f"{self.fields['model']} of {heads} heads": heads for heads in self.heads}

    @property
    def networks(self) -> int:
        """Networks that are trained."""
        return (1 + len(PARAMETRIZATIONS)) * len(self.heads) * self.seeds


@contextmanager
def rows_of_widths(check: Check) -> Iterator[dict[str, Any]]:
    """Adds the rows of all widths to MODELS, and removes them again.

    Raises:
        UserError: the model has no widths, or a field is wrong.
    """
    model = Run(**check.fields).model_row
    rows: dict[str, Any] = {name: model.of_heads(heads) for name, heads in check.names.items()}
    if None in rows.values():
        raise UserError(f"{check.fields['model']}: its row has no of_heads, so no other widths")
    for kind in PARAMETRIZATIONS:
        Run(**check.fields, parametrization=kind)  # refused before anything is trained
    MODELS.update(rows)
    try:
        yield rows
    finally:
        for name in rows:
            del MODELS[name]


def coordinates(check: Check, cluster: Cluster, rank: Rank, done: Callable[[], object]) -> Rows:
    """The mean |activation| of each module: a row for each run, step and module.

    Step 0 is before the first update. `done` is called after each run.
    """
    found: Rows = []
    with rows_of_widths(check) as rows:
        cases = itertools.product((None, *PARAMETRIZATIONS), rows, range(check.seeds))
        for kind, name, seed in cases:
            run = Run(**check.fields | {"model": name, "parametrization": kind, "seed": seed})
            named = {"parametrization": kind or "standard", "width": rows[name].width}
            dataset = open_dataset(run.data, cluster.path(run.data))
            for row in of_run(run, check.steps, dataset, cluster, rank):
                found.append({**named, "seed": seed, **row})
            done()
    return found


def of_run(run: Run, steps: int, dataset: Dataset, cluster: Cluster, rank: Rank) -> Rows:
    """The rows of one run, over `steps` updates."""
    state, sizes = new_state(run, rank.device), dict[str, list[Tensor]]()
    watch(state.net, sizes)
    step, found = stepper(run, state, cluster, rank), Rows()
    for number in range(1, steps + 2):  # the forward of the last one is after `steps` updates
        batch = make_batch(run, dataset, rank.device, number, 0, run.batch_size)
        step(number, iter([batch]))
        found += [
            {"step": number - 1, "module": name, "value": float(torch.stack(seen).mean())}
            for name, seen in sizes.items()
        ]
        sizes.clear()
    return found


def watch(net: nn.Module, sizes: dict[str, list[Tensor]]) -> None:
    """Adds the mean |output| of every module with weights to `sizes` at each forward.

    Blocks share a name. A module that returns the output of its last part is that part.
    """
    last: list[Tensor | None] = [None]

    def hook(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output is not last[0]:
            last[0] = output
            sizes.setdefault(name, []).append(output.detach().float().abs().mean())

    for name, module in net.named_modules():
        if name and next(module.parameters(), None) is not None:
            kind = re.sub(r"\.\d+(?=\.|$)", "", name)
            module.register_forward_hook(lambda m, i, output, kind=kind: hook(kind, output))
