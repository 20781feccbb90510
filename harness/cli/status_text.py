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


OUTLOOK = "at its end"  # a column of sweeps whose unfinished runs have one
COLUMNS = (
    "state",
    "step",
    "loss",
    "checkpoints",
    "scores",
    "images/s",
    "to go",
    OUTLOOK,
    "used/planned",
    "attempts",
    "tries",
    "jobs",
    "error",
)


def status_text(status: dict[str, Any]) -> str:
    rows, names = status["runs"], status["varies"]
    lines = [
        [row["run"], *(str(row["fields"].get(name, "")) for name in names), *cells(row, status)]
        for row in rows
    ]
    columns = [name for name in COLUMNS if name != OUTLOOK or shows_outlook(status)]
    head = [name if status["estimates"] else name.removesuffix("/planned") for name in columns]
    done = sum(r["state"] == "done" for r in rows)
    where = status["store"]
    absent = ", which does not exist: --store names another" * (not status["store_exists"])
    summary = f"{done} of {len(lines)} runs are done in {where}{absent}; {used_text(status)}"
    rest = [status["protocol_text"], *notes(status), *status["warnings"], status["scheduler"]]
    return "\n".join(filter(None, (aligned(["run", *names, *head], lines), summary, *rest)))


def cells(row: Mapping[str, Any], status: Mapping[str, Any]) -> list[str]:
    """A run's line of the table, below COLUMNS."""
    planned = f"/{duration(row['planned_hours'])}" * status["estimates"]
    return [
        state_text(row),
        f"{row['step']}/{row['last_step']}",
        "" if row["loss"] is None else f"{row['loss']:.4f}",
        f"{row['checkpoints']}/{row['checkpoints_wanted']}",
        f"{row['scores']}/{row['scores_wanted']}",
        f"{row['images_per_second'] or 0:.0f}",
        duration(row["eta_seconds"] / 3600) if row["eta_seconds"] else "",
        *[outlook_text(row["outlook"])] * shows_outlook(status),
        duration(row["used_hours"]) + planned,
        str(row["attempts"]),
        str(row["tries"] or ""),
        queue_text(row["jobs"]),
        error_text(row),
    ]


def shows_outlook(status: Mapping[str, Any]) -> bool:
    return any(row["outlook"] for row in status["runs"])


def outlook_text(seen: Mapping[str, Any] | None) -> str:
    """fid 41 [38, 45]: the last score, predicted from those that the run has."""
    if not seen:
        return ""
    numbers = "{prediction:.3g} [{low:.3g}, {high:.3g}]".format(**seen)
    return f"{seen['metric']} {numbers}" + ", dominated" * bool(seen["dominated_by"])


def state_text(row: Mapping[str, Any]) -> str:
    silent = row["silent_seconds"] or 0
    return row["state"] + (f", silent for {duration(silent / 3600)}" if silent > SILENT_S else "")


def error_text(row: Mapping[str, Any]) -> str:
    """The error, with its task where that is not the training."""
    task, error = row["error_task"].removeprefix(row["run"]), row["error"]
    error = error.removeprefix(f"{row['error_task']}: ").removeprefix(f"{row['run']}: ")
    return f"{task}: {error}"[:120] if task else error[:120]


def notes(status: Mapping[str, Any]) -> Iterator[str]:
    if shows_outlook(status):
        yield (
            f"{OUTLOOK}: the last score, predicted from the run's own and what finished runs still"
            " gained, with its 95 % interval; dominated: a finished run of no more compute is below"
        )
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
    used = f"{duration(totals['used_hours'])} of device time used"
    planned = f"{duration(totals['planned_hours'])} planned for all on one {status['planned_on']}"
    return f"{used}, {planned}" if status["estimates"] else used
