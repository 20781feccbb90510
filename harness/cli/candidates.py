"""The runs a study could have next: every model of its family, with its hours. No torch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.cli.plan import estimates
from harness.cli.report import find
from harness.cli.verb import cluster_from
from harness.models import MODELS
from harness.spec import AnyProtocol, Run, Sweep
from harness.study import compute, cost
from harness.study.speed import Speed, known_speed
from harness.study.store import Store

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
    """
    Raises:
        UserError: the budget is not above 0.
    """
    if not 0 < hours < 1e12:
        raise UserError(f"--gpu-hours {hours:g}: give hours above 0")


def siblings(sweep: Sweep) -> Iterator[Run]:
    """The sweep's first run with every model of its families that fits its data, each once."""
    first = dataclasses.replace(sweep.runs[0], seed=0)
    families = {run.model_row.family for run in sweep.runs}
    for name, row in MODELS.items():
        if row.family in families and not row.problem(first.setting):
            try:
                yield dataclasses.replace(first, model=name)
            except UserError:  # another model's conditioning, or a batch above its data
                continue


def scale(run: Run) -> Candidate:
    """What the analysis knows a model by."""
    row = run.model_row
    return {
        "model": run.model,
        "patch": float("nan") if row.patch_side is None else row.patch_side,
        "gflops": compute.gflops(run),
        "params": compute.parameters(run),
    }


def score_hours(run: Run, sweep: Sweep, speed: Speed, last: bool = False) -> float:
    """Device-hours of scoring a run as the sweep does, or its last step alone."""
    scored = [p for step, p in sweep.scores if not last or step == sweep.steps[-1]]
    return sum(cost.evaluation(run, protocol, speed).hours for protocol in scored)


def source(value: Run | AnyProtocol) -> str:
    """Python that makes the value again, without the fields at their defaults."""
    fields = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(fields)})"


def sweep_source(
    name: str, about: str, runs: Sequence[Run], steps: Sequence[int], sweep: Sweep
) -> str:
    """A sweep's file with these runs and steps, under the protocols of another.

    Where those have steps of their own, these steps are scored under those that the last step has.
    """
    own = steps != sweep.steps
    scored = {p: tuple(steps) if own else sweep.steps_of(p) for p in sweep.protocols}
    if own:
        scored = {p: s for p, s in scored.items() if sweep.steps[-1] in sweep.steps_of(p)}
    kinds = sorted({"Run", "Sweep", *(type(protocol).__name__ for protocol in scored)})
    lines = [f'"""{about}"""', "", f"from harness.spec import {', '.join(kinds)}", ""]
    lines += ["SWEEP = Sweep(", f"    name={name!r},", "    runs=("]
    lines += [f"        {source(run)}," for run in runs]
    lines += ["    ),", f"    steps={tuple(steps)!r},", "    protocols={"]
    lines += [f"        {source(protocol)}: {s!r}," for protocol, s in scored.items()]
    return "\n".join([*lines, "    },", ")", ""])
