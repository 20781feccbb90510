"""What `harness status` prints. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.base.text import aligned, duration

SILENT_S = 600  # a running job that wrote nothing for longer is shown as silent


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
        "tries",
        "jobs",
        "error",
    )
    lines = [
        (
            r["run"],
            state_text(r),
            f"{r['step']}/{r['last_step']}",
            f"{r['checkpoints']}/{r['checkpoints_wanted']}",
            f"{r['scores']}/{r['scores_wanted']}",
            f"{r['images_per_second'] or 0:.0f}",
            duration(r["eta_seconds"] / 3600) if r["eta_seconds"] else "",
            f"{duration(r['used_hours'])}/{duration(r['planned_hours'])}",
            str(r["attempts"]),
            str(r["tries"] or ""),
            queue_text(r["jobs"]),
            error_text(r),
        )
        for r in status["runs"]
    ]
    done = sum(r["state"] == "done" for r in status["runs"])
    summary = f"{done} of {len(lines)} runs are done in {status['store']}; {used_text(status)}"
    rest = [*notes(status), *status["warnings"], status["scheduler"]]
    return "\n".join(filter(None, (aligned(head, lines), summary, *rest)))


def state_text(row: Mapping[str, Any]) -> str:
    silent = row["silent_seconds"] or 0
    return row["state"] + (f", silent for {duration(silent / 3600)}" if silent > SILENT_S else "")


def error_text(row: Mapping[str, Any]) -> str:
    """The error, with its task where that is not the training."""
    task = row["error_task"].removeprefix(row["run"])
    return f"{task}: {row['error']}"[:120] if task else row["error"][:120]


def notes(status: Mapping[str, Any]) -> Iterator[str]:
    for job in status["removed"]:
        yield (
            f"job {job['job']} {job['state']}: {job['task']}, which the sweep no longer asks for:"
            " harness launch --end-removed ends it"
        )
    if status["bad_nodes"]:
        yield f"nodes where jobs failed at once: {', '.join(status['bad_nodes'])}"
    for follower in status["followers"]:
        words = f"follower: job {follower['job']} {follower['state']} {follower['message'][:100]}"
        yield words.rstrip()


def used_text(status: dict[str, Any]) -> str:
    totals = status["totals"]
    return (
        f"{duration(totals['used_hours'])} of device time used,"
        f" {duration(totals['planned_hours'])} planned for all on one {status['planned_on']}"
    )
