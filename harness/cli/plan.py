"""`harness plan`: what the sweep lacks, and what it takes, as a table or JSON. No torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.base.text import aligned, duration, in_units
from harness.cli.verb import Verb, add_json, add_sweep, cluster_from
from harness.spec import Run, Sweep
from harness.study import compute, cost, memory
from harness.study.checks import problems, warnings
from harness.study.cluster import Cluster
from harness.study.plan import Cell, orphans, survey, untouched
from harness.study.speed import Speed, basis, known_speed
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

MARKS = {"new": "+", "going on": "~", "done": "="}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    add_json(parser)
    parser.add_argument(
        "--on", metavar="DEVICE", default="", help="a measured device, by part of its name"
    )


def plan(args: argparse.Namespace) -> int:
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    store = Store(Path(cluster.store))
    found = plan_json(sweep, store, cluster, args.on)
    lines = [
        plan_text(found),
        *(f"Before it can run: {problem}" for problem in found["unfit"]),
        *found["notices"],
    ]
    print(json.dumps(found, indent=1) if args.json else "\n".join(lines))
    return 0


PLAN = Verb(
    "plan",
    "What is missing and why; parameters, Gflops, hours, disk. Starts nothing.",
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
        | spending(
            cost.cost(cell, len(sweep.steps), speed) if cell.known else whole[cost.kind(cell.run)]
        )
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
        "orphaned": orphans(sweep, store),
        "encode": encode,
        "tasks": [{"task": t.id, "kind": type(t).__name__, "reason": t.reason} for t in tasks],
        "unfit": problems(sweep, tasks, cluster),
        "notices": warnings({run.data for run in sweep.runs}, cluster.path),
        "totals": {key: sum(row[key] for row in (*runs, *encode)) for key in spending(cost.Cost())},
        "speed": {
            "device": speed.device,
            "source": speed.source,
            "basis": plan_basis(sweep, kinds.values(), speed),
        },
    }


def plan_basis(sweep: Sweep, runs: Iterable[Run], speed: Speed) -> list[str]:
    """What the plan's times rest on."""
    works = {work: None for run in runs for work in cost.works(run, sweep.protocols)}
    return basis(works, speed)


def whole_costs(sweep: Sweep, speed: Speed) -> dict[tuple[object, ...], cost.Cost]:
    """What each kind of run takes from its beginning to its last score."""
    kinds = {cost.kind(run): run for run in sweep.runs}
    return {
        kind: cost.cost(untouched(run, sweep), len(sweep.steps), speed)
        for kind, run in kinds.items()
    }


def spending(spent: cost.Cost) -> dict[str, float]:
    return {**vars(spent), "evaluate_hours": spent.evaluate_hours}


def plan_row(cell: Cell, sweep: Sweep, peak: memory.Memory) -> dict[str, Any]:
    return {
        "run": cell.run.id,
        "model": cell.run.model,
        "state": cell.state,
        "params": compute.parameters(cell.run),
        "gflops": compute.gflops(cell.run),
        "resume": cell.resume,
        "checkpoints": len(cell.checkpoints),
        "checkpoints_wanted": len(sweep.steps),
        "scores": cell.scores,
        "scores_wanted": len(sweep.steps) * len(sweep.protocols),
        "reason": cell.tasks[0].reason if cell.tasks else "",
        "train_peak_bytes": peak.training,
        "sample_peak_bytes": peak.sampling,
    }


def plan_text(plan: dict[str, Any]) -> str:
    """The plan as a diff: + new, ~ going on, = done, - orphaned."""
    if not plan["tasks"]:
        return (
            f"{plan['sweep']}: nothing is missing: {len(plan['runs'])} runs are trained and scored"
            f" in {plan['store']}"
        )
    head = (
        "",
        "run",
        "params",
        "Gflops",
        "checkpoints",
        "scores",
        "training",
        "scoring",
        "memory",
        "disk",
        "why",
    )
    lines = [
        (
            MARKS[r["state"]],
            r["run"],
            in_units(r["params"]),
            f"{r['gflops']:.4g}",
            f"{r['checkpoints']}/{r['checkpoints_wanted']}",
            f"{r['scores']}/{r['scores_wanted']}",
            duration(r["train_hours"]),
            duration(r["evaluate_hours"]),
            in_units(max(r["train_peak_bytes"], r["sample_peak_bytes"])) + "B",
            in_units(r["disk_bytes"]) + "B",
            r["reason"],
        )
        for r in plan["runs"]
    ]
    lines += [("-", run, *[""] * 8, "in the store, not in this sweep") for run in plan["orphaned"]]
    return "\n".join([aligned(head, lines), *plan_summary(plan)])


def plan_summary(plan: dict[str, Any]) -> list[str]:
    """The sums, and what they assume."""
    count, totals = len(plan["tasks"]), plan["totals"]
    parts = [
        ("sampling", "sample_hours"),
        ("decoding", "decode_hours"),
        ("features", "feature_hours"),
    ]
    scoring = ", ".join(f"{name} {duration(totals[key])}" for name, key in parts if totals[key])
    encoding = [
        f"{row['data']} has no latents yet: encoding takes {duration(row['encode_hours'])} more and"
        f" {in_units(row['disk_bytes'])}B of that disk"
        f" (paths.{row['data']} in the cluster file names the folder)."
        for row in plan["encode"]
    ]
    return [
        f"{count} task{'s' * (count != 1)} missing, in hours of one {plan['speed']['device']}:"
        f" {duration(totals['train_hours'])} of training,"
        f" {duration(totals['evaluate_hours'])} of scoring ({scoring});"
        f" {in_units(totals['disk_bytes'])}B of disk in all",
        *encoding,
        *plan["speed"]["basis"],
        "Several devices share it ideally; queue, start-up, checkpoints and the metrics themselves"
        " are not in it.",
        "Memory: peak of tensors on one device at the cluster's microbatch, in closed form;"
        " torch.compile takes less.",
        "Gflops: forward multiply-adds of one image / 1e9, the paper's convention.",
    ]
