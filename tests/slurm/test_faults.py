"""What jobs survive: each fault costs at most a checkpoint interval, and status is right."""

from __future__ import annotations

import os
import signal
import time

import pytest
from helpers import curve, tiny_run, tiny_sweep
from processes import end, until
from site_verbs import ENDLESS, Site, training, undisturbed

from harness.study.plan import missing

RUN = tiny_run()
SAVING = {"checkpoint_minutes": 0.05}
AT_MOST_S = (
    3 + 5
)  # of work that a crash may cost: the interval, and what lies between looks on a loaded machine


def test_a_time_limit_is_met_as_often_as_it_takes(plain: Site) -> None:
    files = plain.write(training(ENDLESS), hours=1 / 60, follower={"hours": 1 / 60})
    plain.launch(files, "--detach")
    job, follower = plain.jobs()
    until(lambda: len(plain.store.logs(RUN)) == 2 and plain.says(files, "training"), 240)
    until(lambda: plain.says(files, "queued"), 240)
    until(lambda: len(plain.store.logs(RUN)) == 3 and plain.says(files, "training"))
    assert plain.lost(RUN) == [0.0, 0.0] and plain.jobs() == [job, follower]
    assert "Restarts=0" not in plain.lab.run("scontrol", "show", "job", follower), "its own limit"
    assert [there["job"] for there in plain.status(files)["followers"]] == [follower]
    plain.finish(files, [RUN])


@pytest.mark.parametrize("site", ["plain", "full"])
def test_the_preempted_go_on_where_they_were(site: str, request: pytest.FixtureRequest) -> None:
    here: Site = request.getfixturevalue(site)
    sweep = tiny_sweep(steps=(20, 1000), protocols=())  # the first is reached before the fault
    files = here.write(sweep, partition="low", cpus_per_task=4)
    here.launch(files)
    here.trains(RUN)
    here.lab.run(
        "sbatch",
        "--partition=main",
        "--nodes=4",
        "--cpus-per-task=4",
        "--output=/dev/null",
        "--wrap=true",
    )
    until(lambda: here.says(files, "queued"))
    until(lambda: not missing(sweep, here.store))
    here.empty()
    assert here.lost(RUN) == [0.0] and here.starts(RUN)[1] >= 40 and len(here.jobs()) == 1
    assert curve(here.store, RUN) == curve(undisturbed(here, files), RUN)


def test_a_node_that_dies_costs_a_checkpoint_interval(plain: Site) -> None:
    files = plain.write(training(ENDLESS), **SAVING)
    plain.launch(files)
    plain.trains(RUN, 1500)
    (job,) = plain.jobs()
    node, tasks = plain.node(job), plain.lab.pythons(job)
    plain.lab.kill(f"slurmd-{node}")
    for step in plain.lab.steps():
        end(step, "slurmstepd", signal.SIGKILL)
    for task in tasks:
        end(task, "python", signal.SIGKILL)
    try:
        until(lambda: plain.says(files, "queued"))
        until(lambda: len(plain.store.logs(RUN)) == 2)
        plain.trains(RUN)
        assert plain.says(files, "training") and plain.node(job) != node
    finally:
        plain.lab.begin("slurmd", "-N", node)
    assert plain.starts(RUN)[1] > 0 and plain.lost(RUN)[0] <= AT_MOST_S
    plain.finish(files, [RUN], **SAVING)


def test_where_slurmd_alone_dies_two_writers_do_not_meet(plain: Site) -> None:
    files = plain.write(training(ENDLESS), **SAVING)
    plain.launch(files)
    plain.trains(RUN)
    (job,) = plain.jobs()
    node, old = plain.node(job), plain.lab.pythons(job)
    plain.lab.kill(f"slurmd-{node}")
    try:
        until(lambda: plain.queue().get(job) == "PENDING")
        assert plain.says(files, "training"), "whatever Slurm believes"
        until(
            lambda: plain.queue().get(job) == "RUNNING" and set(plain.lab.pythons(job)) - set(old)
        )
        plain.trains(RUN, 1000)
        assert len(plain.store.logs(RUN)) == 1 and plain.node(job) != node, (
            "the second waits for the first"
        )
    finally:
        plain.lab.begin("slurmd", "-N", node)  # which ends the old processes
    until(lambda: len(plain.store.logs(RUN)) == 2)
    plain.trains(RUN)
    assert plain.lost(RUN)[0] <= AT_MOST_S and plain.jobs() == [job]
    plain.finish(files, [RUN], **SAVING)


@pytest.mark.parametrize("site", ["plain", "full"])
def test_jobs_outlive_the_scheduler(site: str, request: pytest.FixtureRequest) -> None:
    here: Site = request.getfixturevalue(site)
    runs = tuple(tiny_run(seed=seed) for seed in range(4))
    files = here.write(training(ENDLESS, runs=runs), throttle=1)
    here.launch(files)
    here.trains(runs[0])
    jobs = here.jobs()
    if here.lab.accounting:
        until(
            lambda: (
                set(jobs[:1])
                & set(here.lab.run("sacct", "-X", "-n", "-P", "--format=JobID").split())
            )
        )
    (task,) = here.lab.pythons(jobs[0])
    here.lab.kill("slurmctld", signal.SIGTERM)
    try:
        found = here.status(files)
        assert found["runs"][0]["state"] == "training" and "does not answer" in found["scheduler"]
        states = [ticket["state"] for run in found["runs"] for ticket in run["jobs"].values()]
        if here.lab.accounting:
            assert (
                states == ["RUNNING", *["PENDING"] * 3]
                and "as accounting last recorded" in found["scheduler"]
            )
        else:
            assert states == [] and "only the store" in found["scheduler"]
        status, _, err = here.harness("launch", files, "--dirty")
        assert status == 1 and "contact slurm controller" in err.splitlines()[-1]
        here.trains(runs[0])
        os.kill(task, signal.SIGUSR2)  # it saves, and waits for a scheduler that can requeue it
        time.sleep(2)
    finally:
        here.lab.begin("slurmctld")
    until(lambda: here.queue().get(jobs[0]) == "PENDING" and here.queue().get(jobs[1]) == "RUNNING")
    assert here.status(files)["scheduler"] == "" and sorted(here.queue()) == sorted(jobs) == sorted(
        here.jobs()
    )
    for run in runs[1:]:  # which are before it now
        here.cancel(files, run.id)
    until(lambda: here.says(files, "training", *["cancelled"] * 3) and here.lost(runs[0]) == [0.0])
