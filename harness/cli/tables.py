"""What plan and status print: the sweep against the store, as aligned text or as JSON. No torch."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.base.errors import UserError
from harness.base.files import is_claimed, read_json
from harness.base.text import aligned, duration, in_units
from harness.launch.follow import followers
from harness.launch.jobs import known
from harness.launch.ledger import cancelled, given, last_error
from harness.launch.slurm import Ticket
from harness.launch.submit import worn_out
from harness.spec import Run, Sweep
from harness.study import compute, cost, memory
from harness.study.cluster import Cluster
from harness.study.plan import Cell, orphans, survey, untouched
from harness.study.speed import Speed, basis, known_speed
from harness.study.store import Store, merged

MARKS = {"new": "+", "going on": "~", "done": "="}


def plan_json(sweep: Sweep, store: Store, cluster: Cluster, on: str = "") -> dict[str, Any]:
    """Everything plan knows, for scripts."""
    speed, cells = known_speed(store, cluster, on), survey(sweep, store)
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
        "store": str(store.root),
        "runs": runs,
        "orphaned": orphans(sweep, store),
        "encode": encode,
        "tasks": [
            {"task": t.id, "kind": type(t).__name__, "reason": t.reason}
            for c in cells
            for t in c.tasks
        ],
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
        return f"{plan['sweep']}: nothing is missing: {len(plan['runs'])} runs are trained and scored in {plan['store']}"
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
        f" {in_units(row['disk_bytes'])}B of that disk (paths.{row['data']} in the cluster file names the folder)."
        for row in plan["encode"]
    ]
    return [
        f"{count} task{'s' * (count != 1)} missing, in hours of one {plan['speed']['device']}:"
        f" {duration(totals['train_hours'])} of training, {duration(totals['evaluate_hours'])} of scoring ({scoring});"
        f" {in_units(totals['disk_bytes'])}B of disk in all",
        *encoding,
        *plan["speed"]["basis"],
        "Several devices share it ideally; queue, start-up, checkpoints and the metrics themselves are not in it.",
        "Memory: peak of tensors on one device at the cluster's microbatch, in closed form; torch.compile takes less.",
        "Gflops: forward multiply-adds of one image / 1e9, the paper's convention.",
    ]


def status_json(sweep: Sweep, store: Store, cluster: Cluster) -> dict[str, Any]:
    """Expected × found for every run, who is at work, how fast, and what failed last."""
    last = given(
        store
    )  # before the queue, and the queue before the files: so that what has just ended is no failure
    jobs, scheduler = known(store)
    cells = survey(sweep, store)
    given_up = worn_out(
        [task for cell in cells for task in cell.tasks if task.id not in jobs], store, cluster
    )
    off = cancelled(store)
    logs = {task: line["log"] for task, line in last.items()} if not scheduler else {}
    speed = known_speed(store, cluster)
    planned = whole_costs(sweep, speed)
    rows = [
        status_row(c, sweep, store, jobs, given_up, off, logs)
        | {"planned_hours": planned[cost.kind(c.run)].hours}
        for c in cells
    ]
    return {
        "sweep": sweep.name,
        "store": str(store.root),
        "scheduler": scheduler,
        "runs": rows,
        "followers": followers(sweep, store, jobs) if not scheduler else [],
        "totals": {key: sum(row[key] for row in rows) for key in ("used_hours", "planned_hours")},
        "planned_on": speed.device + ("" if speed.rows else ", published"),
    }


def status_row(
    cell: Cell,
    sweep: Sweep,
    store: Store,
    jobs: dict[str, Ticket],
    given_up: set[str],
    off: set[str],
    logs: dict[str, str],
) -> dict[str, Any]:
    run, last = cell.run, sweep.steps[-1]
    attempts = store.read_attempts(run)[0] if cell.known else []
    lines, records = merged(attempts), scored_records(cell, sweep, store)
    step, speed = (lines[-1]["step"], lines[-1]["images_per_second"]) if lines else (0, None)
    left = [task.id for task in cell.tasks]
    held = {task: jobs[task] for task in left if task in jobs}
    training = is_claimed(store.train_claim(run)) or (
        run.id in held and held[run.id].state == "RUNNING"
    )
    failed = [task for task in left if task in logs and task not in {*held, *off} and not training]
    withdrawn = "cancelled" if off & set(left) else cell.state
    state = "training" if training else "queued" if held else "failed" if failed else withdrawn
    eta = (last - step) * run.batch_size / speed if training and speed else None
    return {
        "run": run.id,
        "model": run.model,
        "state": state,
        "step": step,
        "last_step": last,
        "checkpoints": len(cell.checkpoints),
        "checkpoints_wanted": len(sweep.steps),
        "scores": cell.scores,
        "scores_wanted": len(sweep.steps) * len(sweep.protocols),
        "images_per_second": speed,
        "eta_seconds": eta,
        "attempts": len(attempts),
        "used_hours": cost.used_hours(attempts, records),
        "jobs": {task: vars(ticket) for task, ticket in held.items()},
        "given_up": sorted(set(left) & given_up),
        "error": last_error(logs[failed[0]]) if failed else "",
    }


def scored_records(cell: Cell, sweep: Sweep, store: Store) -> Iterator[dict[str, Any]]:
    """The records of a run's scores; one that cannot be read is for collect to name."""
    for protocol in sweep.protocols if cell.scores else ():
        for step in store.scored(cell.run, protocol):
            with contextlib.suppress(UserError, OSError):
                yield read_json(store.record(cell.run, step, protocol))


def queue_text(jobs: dict[str, dict[str, str]]) -> str:
    """2 RUNNING, 1 PENDING (Resources)."""
    states = Counter(
        f"{job['state']} ({job['reason']})" if job["state"] == "PENDING" else job["state"]
        for job in jobs.values()
    )
    return ", ".join(f"{count} {state}" for state, count in states.items())


def status_text(status: dict[str, Any]) -> str:
    head = (
        "run",
        "state",
        "step",
        "checkpoints",
        "scores",
        "images/s",
        "to go",
        "used/planned",
        "attempts",
        "jobs",
        "error",
    )
    lines = [
        (
            r["run"],
            r["state"],
            f"{r['step']}/{r['last_step']}",
            f"{r['checkpoints']}/{r['checkpoints_wanted']}",
            f"{r['scores']}/{r['scores_wanted']}",
            f"{r['images_per_second'] or 0:.0f}",
            duration(r["eta_seconds"] / 3600) if r["eta_seconds"] else "",
            f"{duration(r['used_hours'])}/{duration(r['planned_hours'])}",
            str(r["attempts"]),
            queue_text(r["jobs"]),
            r["error"][:100],
        )
        for r in status["runs"]
    ]
    done = sum(r["state"] == "done" for r in status["runs"])
    summary = f"{done} of {len(lines)} runs are done in {status['store']}; {used_text(status)}"
    following = [
        f"follower: job {f['job']} {f['state']} {f['said'][:100]}".rstrip()
        for f in status["followers"]
    ]
    return "\n".join(filter(None, (aligned(head, lines), summary, *following, status["scheduler"])))


def used_text(status: dict[str, Any]) -> str:
    totals = status["totals"]
    return (
        f"{duration(totals['used_hours'])} of device time used, {duration(totals['planned_hours'])} planned for all"
        f" on one {status['planned_on']}"
    )


def predict_text(rows: Sequence[dict[str, Any]]) -> str:
    """Prediction, interval and truth of each law."""
    head = ("law", "prediction", "95 % interval", "truth", "error", "formula")
    lines = [
        (
            r["law"],
            f"{r['prediction']:.2f}",
            f"{r['low']:.2f} … {r['high']:.2f}",
            f"{r['truth']:.2f}" if r["truth"] == r["truth"] else "not measured",
            f"{r['error']:+.1%}" if r["truth"] == r["truth"] else "",
            r["formula"],
        )
        for r in rows
    ]
    return f"{rows[0]['metric']} of {rows[0]['model']} from {rows[0]['n']} other models\n{aligned(head, lines)}"
