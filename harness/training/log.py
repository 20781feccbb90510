"""The log of a training: its head, one line per step, and what a branch takes over of its trunk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.files import append_lines, sha256, write_json
from harness.base.provenance import peak_speed, provenance
from harness.data import Dataset
from harness.data.origin import read_origin
from harness.models import flops
from harness.spec import Run
from harness.spec.own_rows import digests
from harness.study.compute import training_flop
from harness.study.logs import merged
from harness.study.registry import register
from harness.study.store import Store
from harness.training.step import new_network

Log = Callable[[list[dict[str, object]]], object]  # takes lines


def begin_log(run: Run, store: Store, start: int, rank: Rank, also: Log) -> Log:
    """Opens this attempt's log and returns what appends to it, on rank 0.

    Writes run.json and model.json once.
    """
    if not rank.is_main:
        return lambda lines: None
    register(run, store)
    if not store.model(run).exists():
        net = new_network(run)
        macs = flops.macs(net, run.data_row.shape)
        counted = {
            "params": sum(p.numel() for p in net.parameters()),
            "gflops": macs["total"] / 1e9,
            "macs": macs,
        }
        write_json(store.model(run), counted)
    path = store.next_log(run)
    made = provenance(rank.device, digests(run))
    append_lines(path, [{"start": start, "world": rank.world, **made}])

    def log(lines: list[dict[str, object]]) -> None:
        append_lines(path, lines)
        also(lines)

    return log


def branch_off(run: Run, trunk: Run, step: int, store: Store, dataset: Dataset, rank: Rank) -> None:
    """Writes the trunk's steps as the first log of a run that continues from its state.

    They took no time of this run. Its head says whose they are, and the digest of the state.

    Raises:
        UserError: the trunk was trained on other images.
    """
    if differ := read_origin(store.data(trunk)).differences(dataset.origin):
        raise UserError(
            f"{run.id} would continue from {trunk.id} at step {step}, which has other images"
            f" ({', '.join(differ)}): move {store.state(trunk, step)} away to train it by itself"
        )
    if not rank.is_main or store.logs(run):
        return
    attempts, _ = store.read_attempts(trunk)
    heads = [lines[0] for lines in attempts if lines and "start" in lines[0]]
    source = {"run": trunk.id, "step": step, "sha256": sha256(store.state(trunk, step))}
    blank = {"images_per_second": None, "mfu": None}
    taken = [
        {name: value for name, value in {**line, **blank}.items() if name != "seconds"}
        for line in merged(attempts)
        if line["step"] <= step
    ]
    head = {**(heads[-1] if heads else {}), "start": 0, "branched_from": source}
    append_lines(store.next_log(run), [head, *taken])


def log_steps(
    run: Run,
    step: int,
    rows: list[list[float]],
    speed: float,
    seconds: float,
    rank: Rank,
    log: Log,
) -> bool:
    """Logs the steps until `step`, a line each, up to the first that is not finite.

    Returns whether all are finite. rows: the objective's terms and the gradient norm of each step.
    """
    peak = peak_speed(rank.device)
    used = training_flop(run, 1) / run.batch_size * speed  # operations a second
    pace = {
        "images_per_second": round(speed, 2),
        "mfu": round(used / peak / rank.world, 4) if peak else None,
        "seconds": round(seconds, 3),
    }
    first = step - len(rows) + 1
    finite = list(itertools.takewhile(lambda row: all(map(math.isfinite, row)), rows))
    log(
        [
            {
                "step": first + i,
                "loss": sum(terms),
                **dict(zip(run.objective_row.terms, terms, strict=True)),
                "grad_norm": norm,
                **pace,
            }
            for i, (*terms, norm) in enumerate(finite)
        ]
    )
    return len(finite) == len(rows)
