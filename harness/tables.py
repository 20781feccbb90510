"""What plan and status print: the sweep against the store, as aligned text or as JSON. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness import cost
from harness.cluster import Cluster
from harness.follow import followers
from harness.jobs import known
from harness.launch import worn_out
from harness.ledger import cancelled, given, last_error
from harness.plan import Cell, orphans, survey
from harness.slurm import Ticket
from harness.spec import Sweep
from harness.store import Store, is_claimed

MARKS = {"new": "+", "going on": "~", "done": "="}


def aligned(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]

    def text(line: Sequence[str]) -> str:
        cells = (c.rjust(w) if c[:1].isdigit() else c.ljust(w) for c, w in zip(line, widths, strict=True))
        return "  ".join(cells).rstrip()

    return "\n".join(map(text, [head, *lines]))


def in_units(count: float, units: str = " KMGTP") -> str:
    """675129632 → 675.1M."""
    for unit in units[:-1]:
        if count < 1000:
            return f"{count:.0f}" if unit == " " else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f}{units[-1]}"


def duration(hours: float) -> str:
    """0.5 → 30 min."""
    for size, unit in ((1.0, "h"), (60.0, "min")):
        if hours * size >= 1:
            return f"{hours * size:,.0f} {unit}" if hours * size >= 10 else f"{hours * size:.1f} {unit}"
    return f"{hours * 3600:.2g} s"


def plan_json(sweep: Sweep, store: Store) -> dict[str, Any]:
    """Everything plan knows, for scripts."""
    speed, cells = cost.published_speed(), survey(sweep, store)
    runs = [plan_row(cell, sweep, speed) for cell in cells]
    return {
        "sweep": sweep.name, "store": str(store.root), "runs": runs, "orphaned": orphans(sweep, store),
        "tasks": [{"task": t.id, "kind": type(t).__name__, "reason": t.reason} for c in cells for t in c.tasks],
        "totals": {key: sum(run[key] for run in runs) for key in ("train_hours", "evaluate_hours", "disk_bytes")},
        "speed": {"device": speed.device, "tflops": speed.training / 1e12, "source": speed.source},
    }  # fmt: skip


def plan_row(cell: Cell, sweep: Sweep, speed: cost.Speed) -> dict[str, Any]:
    spent = cost.cost(cell, len(sweep.steps), speed)
    return {
        "run": cell.run.id, "model": cell.run.model, "state": cell.state,
        "params": cost.parameters(cell.run), "gflops": cost.gflops(cell.run), "resume": cell.resume,
        "checkpoints": len(cell.checkpoints), "checkpoints_wanted": len(sweep.steps),
        "scores": cell.scores, "scores_wanted": len(sweep.steps) * len(sweep.protocols),
        "reason": cell.tasks[0].reason if cell.tasks else "",
        "train_hours": spent.train_hours, "evaluate_hours": spent.evaluate_hours, "disk_bytes": spent.disk,
    }  # fmt: skip


def plan_text(plan: dict[str, Any]) -> str:
    """The plan as a diff: + new, ~ going on, = done, - orphaned."""
    if not plan["tasks"]:
        return (
            f"{plan['sweep']}: nothing is missing: {len(plan['runs'])} runs are trained and scored in {plan['store']}"
        )
    speed, totals = plan["speed"], plan["totals"]
    head = ("", "run", "params", "Gflops", "checkpoints", "scores", "training", "scoring", "disk", "why")
    lines = [
        (MARKS[r["state"]], r["run"], in_units(r["params"]), f"{r['gflops']:.4g}",
         f"{r['checkpoints']}/{r['checkpoints_wanted']}", f"{r['scores']}/{r['scores_wanted']}",
         duration(r["train_hours"]), duration(r["evaluate_hours"]), in_units(r["disk_bytes"]) + "B", r["reason"])
        for r in plan["runs"]
    ]  # fmt: skip
    lines += [("-", run, *[""] * 7, "in the store, not in this sweep") for run in plan["orphaned"]]
    count = len(plan["tasks"])
    return "\n".join([
        aligned(head, lines),
        f"{count} task{'s' * (count != 1)} missing, on one {speed['device']}:"
        f" {duration(totals['train_hours'])} of training,"
        f" {duration(totals['evaluate_hours'])} of sampling; {in_units(totals['disk_bytes'])}B of disk in all",
        "Gflops: forward multiply-adds of one image / 1e9, the paper's convention.",
        f"Time: {speed['tflops']:g} TFLOP/s on {speed['device']}, published ({speed['source']}); not measured here;"
        " decoding and features are not in them.",
    ])  # fmt: skip


def status_json(sweep: Sweep, store: Store, cluster: Cluster) -> dict[str, Any]:
    """Expected × found for every run, who is at work, how fast, and what failed last."""
    last = given(store)  # before the queue, and the queue before the files: so that what has just ended is no failure
    jobs, scheduler = known(store)
    cells = survey(sweep, store)
    given_up = worn_out([task for cell in cells for task in cell.tasks if task.id not in jobs], store, cluster)
    off = cancelled(store)
    logs = {task: line["log"] for task, line in last.items()} if not scheduler else {}
    rows = [status_row(c, sweep, store, jobs, given_up, off, logs) for c in cells]
    following = followers(sweep, store, jobs) if not scheduler else []
    return {
        "sweep": sweep.name, "store": str(store.root), "scheduler": scheduler, "runs": rows, "followers": following,
    }  # fmt: skip


def status_row(
    cell: Cell, sweep: Sweep, store: Store, jobs: dict[str, Ticket], given_up: set[str], off: set[str],
    logs: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    run, last = cell.run, sweep.steps[-1]
    lines = store.read_log(run)[0] if cell.known else []
    step, speed = (lines[-1]["step"], lines[-1]["images_per_second"]) if lines else (0, None)
    left = [task.id for task in cell.tasks]
    held = {task: jobs[task] for task in left if task in jobs}
    training = is_claimed(store.train_claim(run)) or (run.id in held and held[run.id].state == "RUNNING")
    failed = [task for task in left if task in logs and task not in {*held, *off} and not training]
    withdrawn = "cancelled" if off & set(left) else cell.state
    state = "training" if training else "queued" if held else "failed" if failed else withdrawn
    eta = (last - step) * run.batch_size / speed if training and speed else None
    return {
        "run": run.id, "model": run.model, "state": state, "step": step, "last_step": last,
        "checkpoints": len(cell.checkpoints), "checkpoints_wanted": len(sweep.steps),
        "scores": cell.scores, "scores_wanted": len(sweep.steps) * len(sweep.protocols),
        "images_per_second": speed, "eta_seconds": eta, "attempts": len(store.logs(run)),
        "jobs": {task: vars(ticket) for task, ticket in held.items()}, "given_up": sorted(set(left) & given_up),
        "error": last_error(logs[failed[0]]) if failed else "",
    }  # fmt: skip


def queue_text(jobs: dict[str, dict[str, str]]) -> str:
    """2 RUNNING, 1 PENDING (Resources)."""
    states = Counter(f"{job['state']} ({job['reason']})" if job["state"] == "PENDING" else job["state"]
                     for job in jobs.values())  # fmt: skip
    return ", ".join(f"{count} {state}" for state, count in states.items())


def status_text(status: dict[str, Any]) -> str:
    head = ("run", "state", "step", "checkpoints", "scores", "images/s", "to go", "attempts", "jobs", "error")
    lines = [
        (r["run"], r["state"], f"{r['step']}/{r['last_step']}", f"{r['checkpoints']}/{r['checkpoints_wanted']}",
         f"{r['scores']}/{r['scores_wanted']}", f"{r['images_per_second'] or 0:.0f}",
         duration(r["eta_seconds"] / 3600) if r["eta_seconds"] else "", str(r["attempts"]), queue_text(r["jobs"]),
         r["error"][:100])
        for r in status["runs"]
    ]  # fmt: skip
    done = sum(r["state"] == "done" for r in status["runs"])
    summary = f"{done} of {len(lines)} runs are done in {status['store']}"
    following = [f"follower: job {f['job']} {f['state']} {f['said'][:100]}".rstrip() for f in status["followers"]]
    return "\n".join(filter(None, (aligned(head, lines), summary, *following, status["scheduler"])))


def predict_text(rows: Sequence[dict[str, Any]]) -> str:
    """Prediction, interval and truth of each law."""
    head = ("law", "prediction", "95 % interval", "truth", "error", "formula")
    lines = [
        (r["law"], f"{r['prediction']:.2f}", f"{r['low']:.2f} … {r['high']:.2f}",
         f"{r['truth']:.2f}" if r["truth"] == r["truth"] else "not measured",
         f"{r['error']:+.1%}" if r["truth"] == r["truth"] else "", r["formula"])
        for r in rows
    ]  # fmt: skip
    return f"{rows[0]['metric']} of {rows[0]['model']} from {rows[0]['n']} other models\n{aligned(head, lines)}"
