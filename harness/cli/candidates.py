"""The runs a study could have next: every model of its family, with its hours. No torch."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UserError
from harness.cli.plan import estimates
from harness.cli.report import find
from harness.cli.verb import cluster_from
from harness.models import MODELS
from harness.models.free_sizes import FAMILIES
from harness.spec import AnyProtocol, Run, Sweep
from harness.spec.schedule import read_schedule
from harness.study import compute, cost
from harness.study.isoflop import Ladder
from harness.study.speed import Speed, known_speed
from harness.study.store import Store

if TYPE_CHECKING:
    import pandas as pd

Candidate = dict[str, Any]


def sweep_of(args: argparse.Namespace) -> Sweep:
    """The sweep behind a table.

    Raises:
        UserError: the study is a table without one, or has no steps to train for.
    """
    sweep = find(args.sweep, args.results).sweep
    if sweep is None:
        raise UserError(
            f"{args.sweep} is a table without a sweep, so that nothing says what a run is: give the"
            " name or the file of a sweep"
        )
    return sweep


def speed_of(args: argparse.Namespace, sweep: Sweep) -> Speed:
    """The speed of the device that the hours are of.

    Raises:
        UserError: nothing tells how long networks this small take.
    """
    cluster = cluster_from(args)
    speed = known_speed(Store(Path(cluster.store)), cluster, args.on)
    if not estimates(sweep, speed):
        raise UserError(
            "no speed is measured and the published one is of networks that fill a GPU: run harness"
            f" bench {args.sweep} --seconds 0.1 first"
        )
    return speed


def require_hours(hours: float) -> None:
    """Checks --gpu-hours.

    Raises:
        UserError: the budget is not above 0.
    """
    if not 0 < hours < 1e12:
        raise UserError(f"--gpu-hours {hours:g}: give hours above 0")


def of_the_law(
    sweep: Sweep,
    scores: pd.DataFrame,
    metric: str,
    protocol: str | None = None,
    like: str | None = None,
) -> Sweep:
    """The sweep with the runs of one recipe and family: those of the scores of a law.

    `like` is a model of the family wanted (default: the first scored). Of scores without ids, such
    as published ones, the recipe is that of the first run.
    """
    from analysis.grid import grid

    shown = set(grid(scores, metric, protocol)["run"])
    family = MODELS[like].family if like and like in MODELS else None
    known = [run for run in sweep.runs if family in (None, run.model_row.family)] or sweep.runs
    first = next((run for run in known if run.id in shown), known[0])
    alike = tuple(run for run in sweep.runs if recipe(run) == recipe(first))
    return dataclasses.replace(sweep, runs=alike)


def recipe(run: Run) -> Candidate:
    """What runs of one law share: not their model and seed, nor where the lr decays."""
    schedule = read_schedule(run.schedule)
    decays = schedule and (schedule.warmup, schedule.decay is not None)
    fields = {**run.canonical(), "schedule": decays, "family": run.model_row.family}
    return {name: value for name, value in fields.items() if name not in ("model", "seed")}


def nearest(run: Run, sweep: Sweep) -> Run:
    """The sweep's run of this size, or of the nearest one; of several that of most steps."""

    def distance(other: Run) -> tuple[float, int]:
        off = abs(math.log(compute.gflops(other) / compute.gflops(run)))
        return off, -sweep.steps_of(other)[-1]

    return min(sweep.runs, key=distance)


def steps_like(run: Run, sweep: Sweep) -> tuple[int, ...]:
    """The steps of the sweep's run of this size, or the nearest: runs may have their own."""
    return sweep.steps_of(nearest(run, sweep))


def siblings(sweep: Sweep, more: Iterable[str] = ()) -> Iterator[Run]:
    """The sweep's first run with its own models, all named ones of its family, and `more`.

    The schedule is that of the nearest size, whose steps it is made for.
    """
    first = dataclasses.replace(sweep.runs[0], seed=0)
    own = [run.model for run in sweep.runs]
    for name in dict.fromkeys([*MODELS, *own, *more]):
        row = MODELS[name]
        unusable = row.counted_alone or row.problem(first.setting)
        if row.family == first.model_row.family and not unusable:
            try:
                run = dataclasses.replace(first, model=name)
            except UserError:  # another model's conditioning, or a batch above its data
                continue
            yield dataclasses.replace(run, schedule=nearest(run, sweep).schedule)


def free_sizes(sweep: Sweep, beyond: int = 1) -> Iterator[str]:
    """Models at factors of two in Gflops, `beyond` of them below and above the sweep's own.

    Of each patch; they have the head dimension of the first run, and its depth where all have it.
    """
    row, setting = sweep.runs[0].model_row, sweep.runs[0].setting
    family = FAMILIES.get(row.family)
    if family is None or not isinstance(row, family.row):
        return
    alike = [run for run in sweep.runs if isinstance(run.model_row, family.row)]
    depths = {getattr(run.model_row, "depth", 0) for run in alike}
    depth = row.depth if len(depths) == 1 and len({run.model for run in alike}) > 1 else None
    for patch in {run.model_row.patch: None for run in alike}:
        sizes = [compute.gflops(run) for run in alike if run.model_row.patch == patch]
        ladder = Ladder(row.family, setting, patch or 1, row.width // row.heads, depth)
        octaves = round(math.log2(max(sizes) / min(sizes)))
        for k in range(-beyond, octaves + beyond + 1):
            yield ladder.nearest(min(sizes) * 2.0**k)


def prolonged(run: Run) -> Run:
    """The run for twice the steps: a decay of its learning rate begins and ends twice as late."""
    schedule = read_schedule(run.schedule)
    if schedule is None or schedule.decay is None:
        return run
    start, end = schedule.decay
    return dataclasses.replace(run, schedule=f"wsd-{schedule.warmup}-{2 * start}-{2 * end}")


def scale(run: Run) -> Candidate:
    """What the analysis knows a model by."""
    row = run.model_row
    return {
        "model": run.model,
        "family": row.family,
        "patch": float("nan") if row.patch_side is None else row.patch_side,
        "gflops": compute.gflops(run),
        "params": compute.parameters(run),
    }


def score_hours(run: Run, sweep: Sweep, speed: Speed, last: bool = False) -> float:
    """Device-hours of scoring a run as the sweep does, or its last step alone."""
    steps = steps_like(run, sweep)
    scored = [p for s, p in sweep.scores if s in steps and (not last or s == steps[-1])]
    return sum(cost.evaluation(run, protocol, speed).hours for protocol in scored)


def alone(run: Run, steps: tuple[int, ...], sweep: Sweep) -> Sweep:
    """The sweep of this run alone; steps that are not the sweep's are scored as its last one is."""
    usual = steps_like(run, sweep)
    scored: dict[AnyProtocol, tuple[int, ...]] = {}
    for protocol in sweep.protocols:
        at = tuple(step for step in usual if step in sweep.steps_of(protocol))
        if at and (steps == usual or usual[-1] in at):
            scored[protocol] = at if steps == usual else steps
    name = f"{sweep.name}_next"
    return dataclasses.replace(
        sweep, name=name, runs=(run,), trained={}, steps=steps, protocols=scored
    )
