"""`harness seeds`: how many seeds tell a difference apart, and what they cost, before training."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.errors import UserError
from harness.base.text import aligned, duration
from harness.cli.plan import estimates, whole_costs
from harness.cli.report import find, table, table_errors
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_metric, add_on, add_sweep, cluster_from
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.speed import known_speed
from harness.study.store import Store

if TYPE_CHECKING:
    from analysis.power import Variances

SHOWN = (2, 3, 5, 10)


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--difference", type=float, default=5.0, help="of two recipes, in %% (default: 5)"
    )
    parser.add_argument(
        "--power", type=float, default=0.8, help="chance to tell it apart (default: 0.8)"
    )
    parser.add_argument(
        "--cells", type=int, default=1, help="models compared at once, Holm-corrected (default: 1)"
    )
    add_metric(parser)
    add_on(parser)
    add_json(parser)
    table_options(parser)


def seeds(args: argparse.Namespace) -> int:
    found = seeds_json(args)
    print(json.dumps(found, indent=1, ensure_ascii=False) if args.json else text(found))
    return 0


SEEDS = Verb(
    "seeds",
    "Before training: the seeds that a wanted difference needs, and their hours.",
    "dit_grid --difference 2",
    options,
    seeds,
)


@table_errors()
def seeds_json(args: argparse.Namespace) -> dict[str, Any]:
    """Returns noise, seeds needed and a table of seeds, differences and hours.

    Raises:
        UserError: numbers out of range, or a difference that no number of seeds tells.
    """
    from analysis import power

    require_numbers(args)
    noise = noise_of(args)
    share, cells, wanted = args.difference / 100, args.cells, args.power
    needed = power.seeds_needed(share, noise.run, wanted, cells)
    each = hours_of_a_seed(args)
    counts = sorted({*SHOWN, needed})
    rows = [
        {
            "seeds": count,
            "difference": power.smallest_difference(noise.run, count, wanted, cells),
            "hours": None if each is None else count * each,
        }
        for count in counts
    ]
    return {
        "difference": share,
        "power": wanted,
        "cells": cells,
        "needed": needed,
        "needed_low": power.seeds_needed(share, noise.low, wanted, cells),
        "needed_high": seeds_or_none(share, noise.high, wanted, cells),
        "noise": clean(dataclasses.asdict(noise)),
        "rows": rows,
    }


def seeds_or_none(share: float, sd: float, wanted: float, cells: int) -> int | None:
    from analysis import power
    from analysis.table import TableError

    try:
        return power.seeds_needed(share, sd, wanted, cells)
    except TableError:  # more than 1,000
        return None


def require_numbers(args: argparse.Namespace) -> None:
    """Checks the numbers of the command line.

    Raises:
        UserError: naming every number out of range.
    """
    wrong = [f"--difference {args.difference:g}"] * (not 0 < args.difference < 1000)
    wrong += [f"--power {args.power:g}"] * (not 0.05 < args.power < 1)
    wrong += [f"--cells {args.cells}"] * (args.cells < 1)
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: give a difference above 0, a power between 0.05 and 1, cells from"
            " 1"
        )


def noise_of(args: argparse.Namespace) -> Variances:
    """Returns the noise of the study's table, or of a study not collected yet the published one."""
    from analysis import power

    found = find(args.sweep, args.results)
    scores = table(args.sweep, args.results) if found.table.exists() else None
    return power.variances(scores, args.metric, args.protocol)


def hours_of_a_seed(args: argparse.Namespace) -> float | None:
    """Returns the device-hours of one seed of every recipe of the sweep; None where not known."""
    sweep, cluster = find(args.sweep, args.results).sweep, cluster_from(args)
    return None if sweep is None else hours_of_recipes(sweep, cluster, args.on)


def hours_of_recipes(sweep: Sweep, cluster: Cluster, on: str) -> float | None:
    speed = known_speed(Store(Path(cluster.store)), cluster, on)
    if not estimates(sweep, speed):
        return None
    whole = whole_costs(sweep, speed)
    recipes = {dataclasses.replace(run, seed=0).id: run for run in sweep.runs}
    return sum(whole[run.id].hours for run in recipes.values())


def clean(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in values.items()}


def text(found: dict[str, Any]) -> str:
    noise, high = found["noise"], found["needed_high"]
    sampling = (
        f"; sampling alone {noise['sampling']:.2%}" if noise["sampling"] is not None else ""
    ) + f"; from {noise['origin']}"
    among = f" in each of {found['cells']} cells (Holm)" if found["cells"] > 1 else ""
    head = (
        f"{found['needed']} seeds of each recipe tell a difference of"
        f" {100 * found['difference']:.3g} %"
        f"{among} at 5 % with a chance of {found['power']:.0%}; over the interval of the noise"
        f" {found['needed_low']} to {high or 'more than 1,000'}."
    )
    lines = [
        (
            str(row["seeds"]),
            f"{row['difference']:.2%}",
            "?" if row["hours"] is None else duration(row["hours"]),
        )
        for row in found["rows"]
    ]
    columns = ("seeds", "smallest difference", "device time of every recipe")
    return "\n".join(
        [
            head,
            f"Noise of one run: {noise['run']:.2%} [{noise['low']:.2%}, {noise['high']:.2%}]"
            f"{sampling}.",
            aligned(columns, lines),
        ]
    )
