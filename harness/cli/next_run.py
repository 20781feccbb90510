"""`harness next`: the run that narrows a prediction most per GPU-hour, as a sweep. No torch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UserError
from harness.base.text import aligned, duration
from harness.cli.candidates import (
    Candidate,
    alone,
    free_sizes,
    of_the_law,
    prolonged,
    require_hours,
    scale,
    score_hours,
    siblings,
    speed_of,
    steps_like,
    sweep_of,
)
from harness.cli.report import table, table_errors
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_metric, add_on, add_sweep
from harness.cli.written_sweep import deliver, require_new, sweep_source
from harness.models import MODELS
from harness.spec import Run, Sweep
from harness.study import cost
from harness.study.branches import fork
from harness.study.speed import Speed, hours

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 12


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--gpu-hours", type=float, required=True, metavar="H", help="that the next runs may take"
    )
    parser.add_argument(
        "--for",
        dest="target",
        metavar="MODEL",
        help="whose score is wanted, at the last step (default: the largest of the family)",
    )
    add_metric(parser)
    add_on(parser)
    parser.add_argument("--out", type=Path, help="the sweep's file (default: it is not written)")
    add_json(parser)
    table_options(parser)


def next_run(args: argparse.Namespace) -> int:
    return deliver(next_json(args), args, text)


NEXT = Verb(
    "next",
    "Which run next: another seed, a new size or more steps, by what it tells per GPU-hour.",
    "digits_seeds --gpu-hours 1 --out next.py",
    options,
    next_run,
)


@table_errors()
def next_json(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the candidates, the most telling per hour first, and a sweep of what is affordable.

    Raises:
        UserError: no sweep, no speed, an unknown model, no law, or nothing that the hours pay for.
    """
    import pandas as pd

    from analysis import next_run as ranking

    require_hours(args.gpu_hours)
    require_new(args.out)
    whole = sweep_of(args)
    speed, scores = speed_of(args, whole), table(args.sweep, args.results)
    sweep = of_the_law(whole, scores, args.metric, args.protocol, args.target)
    target = target_of(sweep, args.target)
    priced = pd.DataFrame(candidates(sweep, scores, speed))
    found = ranking.rank(scores, priced, pd.DataFrame([target]), args.metric, args.protocol)
    able = found[found["hours"].le(args.gpu_hours) & found["shrinks"].gt(0)]
    if able.empty:
        cheapest = found["hours"].min()
        raise UserError(
            f"no run that tells anything takes {args.gpu_hours:g} h or less: the cheapest takes"
            f" {duration(cheapest)}, give more --gpu-hours"
        )
    chosen = able.iloc[0]
    return {
        "target": target["model"],
        "device": speed.device,
        "law": chosen["law"],
        "rows": found.drop(columns=["run", "images"]).head(SHOWN).to_dict("records"),
        "chosen": chosen["model"],
        "kind": chosen["kind"],
        "sweep": written(chosen, sweep),
    }


def target_of(sweep: Sweep, name: str | None) -> Candidate:
    """The model whose prediction is wanted, at the sweep's last step.

    Raises:
        UserError: it is no model of the family.
    """
    asked = [name] if name and name in MODELS else []
    runs = {run.model: run for run in siblings(sweep, asked)}
    if name is not None and name not in runs:
        raise UserError(f"--for {name}: no model of this study's family: {', '.join(runs)}")
    scales = {model: scale(run) for model, run in runs.items()}
    chosen = name or max(scales, key=lambda model: float(scales[model]["gflops"]))
    last = max(sweep.steps_of(run)[-1] for run in sweep.runs)
    return {**scales[chosen], "images": float(last * sweep.runs[0].batch_size)}


def candidates(sweep: Sweep, scores: pd.DataFrame, speed: Speed) -> Iterator[Candidate]:
    """Yields another seed of every scored model, every model not scored, and longer runs."""
    by_model = scores["seed"].fillna(0).astype(int).groupby(scores["model"])
    first, last = by_model.min(), by_model.max()
    batch = sweep.runs[0].batch_size
    for run in siblings(sweep, free_sizes(sweep)):
        known = run.model in first
        images = tuple(float(batch * step) for step in steps_like(run, sweep))
        whole = hours(images[-1], cost.training(run), speed)
        base = scale(run)
        yield {
            **base,
            "kind": "seed" if known else "size",
            "run": dataclasses.replace(run, seed=int(last.get(run.model, -1)) + 1),
            "images": images,
            "hours": whole + score_hours(run, sweep, speed),
        }
        if known:  # it goes on from its last state, or from that before the decay
            more = 2 - (fork(run) or steps_like(run, sweep)[-1]) * batch / images[-1]
            yield {
                **base,
                "kind": "longer",
                "run": dataclasses.replace(prolonged(run), seed=int(first[run.model])),
                "images": (2 * images[-1],),
                "hours": more * whole + score_hours(run, sweep, speed, last=True),
            }


def written(chosen: pd.Series, sweep: Sweep) -> str:
    """The file of a sweep with the chosen run."""
    run: Run = chosen["run"]
    steps = steps_like(run, sweep)
    longer = chosen["kind"] == "longer"
    about = f"The next run of {sweep.name}: {run.model}, as harness next chose it."
    return sweep_source(alone(run, (2 * steps[-1],) if longer else steps, sweep), about)


def text(found: dict[str, Any], out: Path | None) -> str:
    head = ("model", "run", "device time", "interval shrinks", "per 100 h")
    lines = [
        (
            row["model"],
            {"seed": "another seed", "size": "new size", "longer": "twice the steps"}[row["kind"]],
            duration(row["hours"]),
            f"{1 - (1 - row['shrinks']) ** 0.5:.1%}",
            f"{100 * row['per_hour']:.2g}",
        )
        for row in found["rows"]
    ]
    where = f"written to {out}: harness plan {out}" if out else "--out FILE writes its sweep"
    return "\n".join(
        [
            f"What narrows the interval of {found['target']} at the last step, by the"
            f" {found['law']} law, on one {found['device']}:",
            aligned(head, lines),
            f"Chosen: {found['chosen']}, {found['kind']}; {where}.",
        ]
    )
