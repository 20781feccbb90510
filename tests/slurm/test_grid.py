"""A grid on a real Slurm: the table of this machine; asked twice, submitted once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest.mock import ANY

from helpers import curve, finished, tiny_protocol, tiny_run, tiny_sweep
from processes import until
from site_verbs import ENDLESS, Site, training, undisturbed

from harness.base.files import read_json
from harness.study.plan import missing

HOSTILE = {
    "SBATCH_PARTITION": "nowhere",
    "SBATCH_TIMELIMIT": "7",
    "SLURM_MEM_PER_CPU": "1",
    "SLURM_MEM_PER_NODE": "2",
    "SLURM_JOB_ID": "1",
    "SQUEUE_STATES": "FAILED",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "MASTER_ADDR": "nowhere",
}
FOUR_RUNS = tuple(tiny_run(seed=seed) for seed in range(4))


def test_a_grid_is_trained_and_scored_as_on_this_machine(full: Site) -> None:
    sweep = tiny_sweep(runs=tuple(tiny_run(model=f"mini-DiT-S/{patch}") for patch in (8, 4)))
    files = full.write(
        sweep, gpus_per_node=1, evaluate={"partition": "low", "hours": 0.5, "gpus_per_node": 0}
    )
    full.launch(files, "--detach", **HOSTILE)
    until(lambda: not missing(sweep, full.store))
    full.empty()
    assert sorted(full.submissions().values()) == [1] * 7
    local = undisturbed(full, files)
    for run in sweep.runs:
        assert curve(full.store, run) == curve(local, run)
        for at in sweep.steps:
            records = [
                read_json(store.record(run, at, tiny_protocol())) for store in (full.store, local)
            ]
            assert records[0]["values"] == records[1]["values"]
    assert full.launch(files).startswith("0 jobs submitted, 0 already queued or running")
    # Not what the environment said; and no evaluation held a GPU.
    jobs = f"--jobs={','.join(full.jobs())}"
    rows = full.lab.run(
        "sacct", "-X", "-n", "-P", jobs, "--format=Partition,Timelimit,ReqTRES"
    ).split()
    asked = {tuple(row.split("|")[:2]) + ("gres/gpu=1" in row,) for row in rows}
    assert asked == {
        ("main", "01:00:00", True),
        ("main", "01:00:00", False),
        ("low", "00:30:00", False),
    }


def test_two_launches_at_once_submit_once_and_all_is_cancelled(plain: Site) -> None:
    sweep = training(ENDLESS, runs=FOUR_RUNS)
    first = sweep.runs[0]
    files = plain.write(sweep, throttle=1)
    ends = [
        finished(process) for process in [plain.begun("launch", files, "--dirty") for _ in range(2)]
    ]
    assert [status for status, _, _ in ends] == [0, 0] and len(plain.jobs()) == 4, ends
    plain.trains(first)

    tickets = [job for run in plain.status(files)["runs"] for job in run["jobs"].values()]
    assert Counter((t["state"], t["reason"]) for t in tickets) == {
        ("RUNNING", "None"): 1,
        ("PENDING", "JobArrayTaskLimit"): 3,
    }
    status, out, _ = plain.harness("logs", (first.id, files[1]))
    assert status == 0 and f"step 20/{ENDLESS}" in out

    # One pending element and the running one are lost, and asked for again.
    array = plain.jobs()[0].split("_")[0]
    plain.lab.run("scancel", f"{array}_3", f"{array}_0")
    until(lambda: f"{array}_0" not in plain.queue())
    assert plain.status(files)["runs"][3]["error"].startswith("no log: it never started")
    files = plain.write(sweep, throttle=2)  # the longest comes first: the begun one is second
    assert plain.launch(files).count("submitted mini") == 2 and len(plain.jobs()) == 6
    plain.cancel(files, sweep.runs[1].id)
    until(lambda: len(plain.queue()) == 3 and len(plain.starts(first)) == 2)
    assert plain.lost(first) == [0.0]  # the cancelled job had saved what it did
    plain.cancel(files)
    plain.empty()
    assert "nothing to cancel" in plain.harness("cancel", files, "--yes")[1]


def test_more_tasks_than_an_array_may_have(plain: Site) -> None:
    sweep = training(100, runs=tuple(tiny_run(seed=seed) for seed in range(150)))
    files = plain.write(sweep, nodes=4, cpus_per_task=4, throttle=1)
    assert plain.launch(files).count("submitted mini") == 150
    assert Counter(job.split("_")[0] for job in plain.jobs()).most_common() == [
        (ANY, 101),
        (ANY, 49),
    ]


def test_jobs_of_a_launch_that_was_killed_are_ended(plain: Site) -> None:
    """The wrapper kills the launch as soon as sbatch has answered."""
    sweep = training(ENDLESS, runs=FOUR_RUNS)
    files = plain.write(sweep, throttle=1)
    deadly(plain.folder / "sbatch", "sbatch", "kill -9 $PPID")
    path = f"{plain.folder}:{plain.lab.env['PATH']}"
    status, _, _ = plain.harness("launch", files, "--dirty", PATH=path)
    assert status == -9 and len(plain.queue()) == 4 and not plain.store.ledger().exists()
    plain.launch(files)
    until(lambda: set(plain.queue()) == set(plain.jobs()) and len(plain.jobs()) == 4)
    until(lambda: plain.step(FOUR_RUNS[0]))

    more = plain.write(training(ENDLESS, runs=(*FOUR_RUNS, tiny_run(seed=9))), throttle=1)
    assert plain.harness("launch", more, "--dirty", PATH=path)[0] == -9
    status, out, _ = plain.harness("cancel", more, "--yes")
    assert status == 0 and out.count("an interrupted launch") == 1
    plain.empty()


def test_status_asks_the_queue_once(plain: Site) -> None:
    calls = plain.folder / "calls"
    deadly(plain.folder / "squeue", "squeue", f"echo call >> {calls}")
    files = plain.write(training(ENDLESS, runs=FOUR_RUNS))
    plain.launch(files)
    status, out, _ = plain.harness("status", files, PATH=f"{plain.folder}:{plain.lab.env['PATH']}")
    assert (
        status == 0
        and out.count("1 RUNNING") + out.count("1 PENDING") == 4
        and calls.read_text() == "call\n"
    )


def deadly(path: Path, command: str, after: str) -> None:
    """A command first on the path that does what it always does, and then something more."""
    path.write_text(f'#!/bin/sh\n/usr/bin/{command} "$@"\nstatus=$?\n{after}\nexit $status\n')
    path.chmod(0o755)
