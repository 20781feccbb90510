"""`harness plan`: what the sweep lacks, and what it takes, as a table or JSON. No torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.base.text import aligned, duration, in_units
from harness.cli.verb import Verb, add_json, add_on, add_sweep, cluster_from
from harness.spec import Run, Sweep
from harness.study import compute, cost, memory
from harness.study.checks import problems, warnings
from harness.study.cluster import Cluster
from harness.study.plan import Cell, orphans, survey, untouched
from harness.study.speed import Speed, basis, known_speed
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.varying import protocol_text, varying

MARKS = {"new": "+", "going on": "~", "done": "="}
COLUMNS = "params Gflops checkpoints scores training scoring memory disk why".split()
LEGEND = {"+": "new", "~": "started", "=": "done", "-": "of no run of this sweep"}

# A network that fills a GPU: DiT-S/8 has 0.36, those of the digits have less than 0.04.
LEAST_GFLOPS = 0.1


def add_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    add_json(parser)
    add_on(parser)
    parser.add_argument(
        "--others", action="store_true", help="lists the store's runs that are not of this sweep"
    )


def plan(args: argparse.Namespace) -> int:
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    found = plan_json(sweep, Store(Path(cluster.store)), cluster, args.on)
    print(json.dumps(found, indent=1) if args.json else whole_text(found, args.others))
    return 0


def dry_run(sweep: Sweep, store: Store, cluster: Cluster) -> int:
    """What run and launch would do, as `harness plan` prints it."""
    print(whole_text(plan_json(sweep, store, cluster)))
    return 0


def whole_text(plan: dict[str, Any], others: bool = False) -> str:
    """The plan, what keeps it from running, and what to know of it."""
    unfit = (f"Before it can run: {problem}" for problem in plan["unfit"])
    return "\n".join([plan_text(plan, others), *unfit, *plan["notices"]])


PLAN = Verb(
    "plan",
    "Shows what is missing, why, and its parameters, Gflops, hours and disk; starts nothing.",
    "dit_grid",
    add_options,
    plan,
)


def plan_json(sweep: Sweep, store: Store, cluster: Cluster, on: str = "") -> dict[str, Any]:
    """Everything plan knows, for scripts. The store is read once: it may hold 100,000 files."""
    speed, cells = known_speed(store, cluster, on), survey(sweep, store)
    tasks = [task for cell in cells for task in cell.tasks]
    kinds = {cost.kind(run): run for run in sweep.runs}
    peaks = {kind: memory.estimate(run, sweep.protocols, cluster) for kind, run in kinds.items()}
    whole = whole_costs(sweep, speed)
    runs = [
        plan_row(cell, sweep, peaks[cost.kind(cell.run)])
        | spending(cost.cost(cell, sweep, speed) if cell.known else whole[cell.run.id])
        for cell in cells
    ]
    encode = [
        {"data": name, **spending(spent)}
        for name, spent in cost.encodings(cells, cluster, speed).items()
    ]
    return {
        "sweep": sweep.name,
        "store": str(store.root.resolve()),
        "runs": runs,
        "varies": varying(sweep.runs),
        "protocols": [{"protocol": p.id, **p.canonical()} for p in sweep.protocols],
        "protocol_text": protocol_text(sweep.protocols),
        "keep": sweep.keep or ("features in progress",),
        "orphaned": orphans(sweep, store),
        "encode": encode,
        "tasks": [{"task": t.id, "kind": type(t).__name__, "reason": t.reason} for t in tasks],
        "unfit": problems(sweep, tasks, cluster),
        "notices": [
            *warnings({run.data for run in sweep.runs}, cluster.path),
            *([] if sweep.protocols else ["The sweep has no protocol: nothing will be scored."]),
        ],
        "totals": {key: sum(row[key] for row in (*runs, *encode)) for key in spending(cost.Cost())},
        "speed": {
            "device": speed.device,
            "source": speed.source,
            "estimates": estimates(sweep, speed),
            "basis": plan_basis(sweep, kinds.values(), speed),
        },
    }


def estimates(sweep: Sweep, speed: Speed) -> bool:
    """Whether times can be estimated: published is the pace of networks that fill a GPU."""
    return bool(speed.rows) or all(compute.gflops(run) >= LEAST_GFLOPS for run in sweep.runs)


def plan_basis(sweep: Sweep, runs: Iterable[Run], speed: Speed) -> list[str]:
    """What the plan's times rest on."""
    works = {work: None for run in runs for work in cost.works(run, sweep.protocols)}
    return basis(works, speed)


def whole_costs(sweep: Sweep, speed: Speed) -> dict[str, cost.Cost]:
    """What each run takes from its beginning to its last score; a kind is counted once."""
    kinds = {run: (cost.kind(run), sweep.steps_of(run)) for run in sweep.runs}
    one_each = {kind: run for run, kind in kinds.items()}
    found = {kind: cost.cost(untouched(run, sweep), sweep, speed) for kind, run in one_each.items()}
    return {run.id: found[kind] for run, kind in kinds.items()}


def spending(spent: cost.Cost) -> dict[str, float]:
    return {**vars(spent), "evaluate_hours": spent.evaluate_hours}


def plan_row(cell: Cell, sweep: Sweep, peak: memory.Memory) -> dict[str, Any]:
    return {
        "run": cell.run.id,
        "model": cell.run.model,
        "fields": cell.run.canonical(),
        "state": cell.state,
        "params": compute.parameters(cell.run),
        "gflops": compute.gflops(cell.run),
        "resume": cell.resume,
        "checkpoints": len(cell.checkpoints),
        "checkpoints_wanted": len(sweep.steps_of(cell.run)),
        "scores": cell.scores,
        "scores_wanted": len(sweep.scores_of(cell.run)),
        "reason": cell.tasks[0].reason if cell.tasks else "",
        "train_peak_bytes": peak.training,
        "sample_peak_bytes": peak.sampling,
    }


def plan_text(plan: dict[str, Any], others: bool = False) -> str:
    """The plan as a diff: + new, ~ started, = done, and - of other sweeps where it is asked for."""
    orphaned = plan["orphaned"]
    runs = f"{len(orphaned)} run{'s' * (len(orphaned) != 1)}"
    more = [f"{runs} of other sweeps in the store: --others names them"] if orphaned else []
    if not plan["tasks"]:
        done = (
            f"{plan['sweep']}: nothing is missing: {len(plan['runs'])} runs are trained and scored"
            f" in {plan['store']}"
        )
        return "\n".join([done, *(f"- {run}" for run in orphaned if others)])
    head = ["", "run", *plan["varies"], *COLUMNS]
    lines = [plan_line(row, plan) for row in plan["runs"]]
    if others:
        blank = [""] * (len(head) - 3)
        lines += [["-", run, *blank, "in the store, not in this sweep"] for run in orphaned]
        more = []
    marks = [mark for mark in LEGEND if any(line[0] == mark for line in lines)]
    legend = ", ".join(f"{mark} {LEGEND[mark]}" for mark in marks)
    notes = [legend, plan["protocol_text"], *more]
    return "\n".join([aligned(head, lines), *filter(None, notes), *plan_summary(plan)])


def plan_line(row: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    """A run's line of the table."""
    timed = plan["speed"]["estimates"]
    return [
        MARKS[row["state"]],
        row["run"],
        *(str(row["fields"].get(name, "")) for name in plan["varies"]),
        in_units(row["params"]),
        f"{row['gflops']:.4g}",
        f"{row['checkpoints']}/{row['checkpoints_wanted']}",
        f"{row['scores']}/{row['scores_wanted']}",
        *(duration(row[f"{part}_hours"]) if timed else "?" for part in ("train", "evaluate")),
        in_units(max(row["train_peak_bytes"], row["sample_peak_bytes"])) + "B",
        in_units(row["disk_bytes"]) + "B",
        row["reason"],
    ]


def plan_summary(plan: dict[str, Any]) -> list[str]:
    """The sums, and what they assume."""
    count, totals = len(plan["tasks"]), plan["totals"]
    parts = [
        ("sampling", "sample_hours"),
        ("decoding", "decode_hours"),
        ("features", "feature_hours"),
        ("validation", "validate_hours"),
    ]
    scoring = ", ".join(f"{name} {duration(totals[key])}" for name, key in parts if totals[key])
    encoding = [
        f"{row['data']} has no latents yet: encoding takes {duration(row['encode_hours'])} more and"
        f" {in_units(row['disk_bytes'])}B of that disk"
        f" (paths.{row['data']} in the cluster file names the folder)."
        for row in plan["encode"]
    ]
    missing = f"{count} task{'s' * (count != 1)} missing"
    disk = f"{in_units(totals['disk_bytes'])}B of disk in all"
    if totals["kept_bytes"]:
        disk += f", {in_units(totals['kept_bytes'])}B of it {' and '.join(plan['keep'])} of samples"
    time = [
        f"{missing}, on one {plan['speed']['device']}:"
        f" {duration(totals['train_hours'])} of training,"
        f" {duration(totals['evaluate_hours'])} of scoring ({scoring}); {disk}",
        *encoding,
        *plan["speed"]["basis"],
        "Several devices share it ideally; queue, start-up, checkpoints and the metrics themselves"
        " are not in it.",
    ]
    unknown = [
        f"{missing}; {disk}",
        "Time: unknown, as networks this small are slower than their operations: harness bench,"
        " with the same words and --seconds 0.1, measures them here.",
    ]
    return [
        *(time if plan["speed"]["estimates"] else unknown),
        "Memory: peak of tensors on one device at the cluster's microbatch, in closed form;"
        " torch.compile takes less.",
        "Gflops: forward multiply-adds of one image / 1e9, the paper's convention.",
    ]
