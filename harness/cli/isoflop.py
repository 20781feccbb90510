"""`harness isoflop`: sizes and steps that spend each of some budgets, as a sweep. No torch."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.base.errors import UserError
from harness.base.text import aligned
from harness.cli.isoflop_centre import centre_of
from harness.cli.plan import plan_json, plan_summary
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_metric, add_on, add_sweep, cluster_from
from harness.cli.written_sweep import deliver, require_new, sweep_source
from harness.models.dit_rows import DiTModel
from harness.models.free_sizes import FAMILIES, LIMITS
from harness.models.uvit_rows import UViTModel
from harness.spec import Sweep
from harness.study import compute
from harness.study.cluster import Cluster
from harness.study.isoflop import LEAST_SIZES, SPAN, Ladder, Point, isoflop, runs_of
from harness.study.plan import survey
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.tasks import Evaluate


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--budgets",
        type=float,
        nargs="+",
        required=True,
        metavar="C",
        help="training operations of a run: 3 × forward × images, two of a multiply-add",
    )
    parser.add_argument("--family", help=f"{', '.join(FAMILIES)} (default: the sweep's)")
    parser.add_argument("--patch", type=int, nargs="+", help="(default: the sweep's)")
    parser.add_argument(
        "--depth", type=int, help="of every model (default: with the width; under muP the sweep's)"
    )
    parser.add_argument("--head", type=int, help="head dimension (default: the sweep's)")
    parser.add_argument(
        "--sizes", type=int, default=5, help=f"of a budget, over ± {SPAN:g} × (default: 5)"
    )
    centre = parser.add_mutually_exclusive_group()
    centre.add_argument("--study", help="whose joint law gives the best size of each budget")
    centre.add_argument(
        "--centre",
        type=float,
        metavar="GFLOPS",
        help="the best model's of the first budget; it grows as the root of the budget",
    )
    add_metric(parser)
    add_on(parser)
    parser.add_argument("--out", type=Path, help="the sweep's file (default: it is not written)")
    add_json(parser)
    table_options(parser)


def verb(args: argparse.Namespace) -> int:
    return deliver(isoflop_json(args), args, text)


ISOFLOP = Verb(
    "isoflop",
    "Sizes and steps that spend each of some budgets, about its best size, as a sweep; its cost.",
    "dit_grid --budgets 1e18 3e18 1e19 --family DiT --out isoflop.py",
    options,
    verb,
)


def isoflop_json(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the points, what the sweep of them lacks and costs, and its file.

    Raises:
        UserError: numbers out of range, a family without free sizes, or budgets that none meets.
    """
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    require_numbers(args)
    require_new(args.out)
    sweep = of_one_family(sweep, args.family)
    ladders, like = ladders_of(args, sweep), sweep.runs[0]
    points, bases = list[Point](), dict[str, None]()
    for ladder in ladders:
        centre, basis = centre_of(args, ladder)
        bases[basis] = None
        points += isoflop(args.budgets, centre, like, ladder, args.sizes)
    whole = sweep_of_points(points, sweep)
    plan = plan_json(whole, Store(Path(cluster.store)), cluster, args.on)
    return {
        "basis": [*bases],
        "points": [*point_rows(points, whole, cluster)],
        "plan": plan,
        "sweep": sweep_source(whole, about(sweep, args.budgets)),
    }


def about(sweep: Sweep, budgets: Sequence[float]) -> str:
    many = ", ".join(f"{budget:g}" for budget in sorted(set(budgets)))
    title = f"Runs of equal compute, as harness isoflop made them of {sweep.name}."
    return f"{title}\n\nTraining operations of a budget: {many}.\n"


def require_numbers(args: argparse.Namespace) -> None:
    """Checks the numbers of the command line.

    Raises:
        UserError: naming every number out of range.
    """
    wrong = [f"--budgets {b:g}: give operations above 0" for b in args.budgets if not 0 < b < 1e40]
    if not LEAST_SIZES <= args.sizes <= 50:
        wrong.append(f"--sizes {args.sizes}: give {LEAST_SIZES} to 50, a parabola needs three")
    if args.centre is not None and not 0 < args.centre < 1e12:
        wrong.append(f"--centre {args.centre:g}: give Gflops above 0")
    limits = {"--depth": (args.depth, "depth"), "--head": (args.head, "head dimension")}
    for flag, (value, what) in limits.items():
        if value is not None and not 1 <= value <= LIMITS[what]:
            wrong.append(f"{flag} {value}: give 1 to {LIMITS[what]}")
    if wrong:
        raise UserError("; ".join(wrong))


def of_one_family(sweep: Sweep, name: str | None) -> Sweep:
    """The sweep's runs of one family, or of the same networks in other sizes.

    Raises:
        UserError: the family has no free sizes, or the sweep no such networks.
    """
    names = {run.model_row.family: None for run in sweep.runs}
    wanted = name or next((family for family in names if family in FAMILIES), next(iter(names)))
    if wanted not in FAMILIES:
        raise UserError(
            f"{wanted} has no free sizes: take a sweep and a --family of {', '.join(FAMILIES)}"
        )
    own = tuple(run for run in sweep.runs if run.model_row.family == wanted)
    alike = tuple(run for run in sweep.runs if type(run.model_row) is FAMILIES[wanted].row)
    if not alike:
        raise UserError(
            f"--family {wanted}: the networks of {sweep.name} are others, {', '.join(names)}"
        )
    return dataclasses.replace(sweep, runs=own or alike)


def ladders_of(args: argparse.Namespace, sweep: Sweep) -> list[Ladder]:
    """The networks to choose from, for each patch; under muP they have the depth of the first run.

    Raises:
        UserError: a patch, head or depth does not fit the family.
    """
    like = sweep.runs[0]
    row, setting = like.model_row, like.setting
    assert isinstance(row, DiTModel | UViTModel)
    name = args.family or row.family
    family, head = FAMILIES[name], args.head or row.width // row.heads
    depth = args.depth or (row.depth if like.parametrization else None)
    for flag, value, whole in (("head", head, family.head), ("depth", depth, family.depth)):
        if value and value % whole:
            raise UserError(f"--{flag} {value}: give a multiple of {whole}")
    patches = args.patch or sorted({run.model_row.patch or 0 for run in sweep.runs}, reverse=True)
    unfit = [p for p in patches if not 1 <= p <= LIMITS["patch"] or setting.size % p]
    if unfit:
        raise UserError(f"--patch {unfit[0]} does not divide the side of {setting.size}")
    return [Ladder(name, setting, patch, head, depth) for patch in dict.fromkeys(patches)]


def sweep_of_points(points: Sequence[Point], sweep: Sweep) -> Sweep:
    """The sweep of these points: the fields and seeds of another's runs, and its protocols."""
    first = sweep.runs[0]
    like = dict.fromkeys(dataclasses.replace(run, model=first.model) for run in sweep.runs)
    return dataclasses.replace(
        sweep,
        name=f"{sweep.name}_isoflop",
        runs=(),
        steps=(),
        trained=runs_of(points, like),
        protocols=tuple(sweep.protocols),
    )


def point_rows(points: Sequence[Point], sweep: Sweep, cluster: Cluster) -> Iterator[dict[str, Any]]:
    """The points with their size, and how many of their scores the store lacks."""
    lacking = {
        (t.run, t.step, t.protocol)
        for c in survey(sweep, Store(Path(cluster.store)))
        for t in c.tasks
        if isinstance(t, Evaluate)
    }
    for point in points:
        runs = [run for run in sweep.runs if run.model == point.model]
        wanted = [(run, s, p) for run in runs for s, p in sweep.scores_of(run) if s == point.steps]
        yield {
            **vars(point),
            "off": point.off,
            "gflops": compute.gflops(runs[0]),
            "scores_wanted": len(wanted),
            "missing": len(lacking.intersection(wanted)),
        }


def text(found: dict[str, Any], out: Path | None) -> str:
    head = ("budget", "model", "Gflops", "steps", "off by", "scores missing")
    lines = [
        (
            f"{row['budget']:.3g}",
            row["model"],
            f"{row['gflops']:.4g}",
            f"{row['steps']:,}",
            f"{row['off']:+.2%}",
            f"{row['missing']} of {row['scores_wanted']}",
        )
        for row in found["points"]
    ]
    runs = len(found["plan"]["runs"])
    where = f"written to {out}: harness plan {out}" if out else "--out FILE writes its sweep"
    return "\n".join(
        [
            "Budgets are training operations, 3 × forward × images, two of a multiply-add; the best"
            f" size is that of {'; '.join(found['basis'])}:",
            aligned(head, lines),
            f"{len(lines)} points of {runs} runs, as a longer run continues a shorter; {where}.",
            *plan_summary(found["plan"]),
        ]
    )
