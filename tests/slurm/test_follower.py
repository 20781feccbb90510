"""Followers in a terminal and as jobs: killed, requeued, cancelled, started twice."""

from __future__ import annotations

import os
import signal

from helpers import finished, tiny_run, tiny_sweep
from processes import until
from site_verbs import ENDLESS, Site, training

from harness.study.plan import missing

RUNS = tuple(tiny_run(seed=seed) for seed in range(2))


def test_a_detached_follower_survives_its_deaths(full: Site) -> None:
    files = full.write(tiny_sweep(runs=RUNS, steps=(500, ENDLESS)), follower={"partition": "low"})
    assert "jobs submitted" in full.launch(files, "--follow", "--detach")
    *_, follower = full.jobs()
    assert (
        f"job {follower} follows, submitted earlier" in full.launch(files, "--detach")
        and len(full.jobs()) == 3
    )

    def lives(restarts: int) -> bool:
        said = full.lab.run("scontrol", "show", "job", follower)
        return (
            "JobState=RUNNING" in said
            and f"Restarts={restarts} " in said
            and bool(full.lab.pythons(follower))
        )

    until(lambda: lives(0))
    assert [there["state"] for there in full.status(files)["followers"]] == ["RUNNING"]
    (python,) = full.lab.pythons(follower)
    os.kill(python, signal.SIGKILL)
    until(lambda: lives(1))
    full.lab.run("scontrol", "requeue", follower)
    until(lambda: lives(2))
    full.lab.run("scancel", follower)
    until(lambda: follower not in full.queue())
    (there,) = full.status(files)["followers"]
    assert (there["job"], there["state"]) == (follower, "ended")
    assert not full.launch(files, "--detach").endswith("follow anew\n"), "it is a new one"

    until(lambda: [run["scores"] for run in full.status(files)["runs"]] == [1, 1])

    # The sweep ends a little further on, with a follower of its own.
    full.cancel(files)
    full.empty()
    assert full.says(files, "cancelled", "cancelled")
    sweep = tiny_sweep(runs=RUNS, steps=(500, max(500, *map(full.step, RUNS)) + 40))
    files = full.write(sweep)
    full.launch(files, "--detach")
    until(lambda: not missing(sweep, full.store))
    full.empty()
    assert (
        full.says(files, "done", "done")
        and full.status(files)["followers"][0]["message"] == "nothing is missing"
    )
    count = full.submissions()
    assert sorted(count[task] for task in count if task.startswith("follower")) == [1, 2]
    assert [count[run.id] for run in RUNS] == [2, 2] and [full.lost(run) for run in RUNS] == [
        [0.0],
        [0.0],
    ]
    assert {count[task] for task in count if "@" in task} == {1} and sum(
        "@" in task for task in count
    ) == 4


def test_followers_killed_and_started_twice_submit_once(plain: Site) -> None:
    sweep = tiny_sweep(runs=RUNS, steps=(1500,))
    files = plain.write(sweep)
    first = plain.begun("launch", files, "--dirty", "--follow")
    until(lambda: all(map(plain.step, RUNS)))
    first.kill()
    finished(first)
    plain.lab.run("scancel", plain.jobs()[0].split("_")[0])
    plain.empty()
    assert plain.says(files, "failed", "failed")
    both = [plain.begun("launch", files, "--dirty", "--follow") for _ in range(2)]
    until(lambda: plain.says(files, "training", "training"))
    ends = [finished(process, 300) for process in both]
    assert [status for status, _, _ in ends] == [0, 0], ends
    assert missing(sweep, plain.store) == [] and plain.says(files, "done", "done")
    assert sorted(plain.submissions().values()) == [1, 1, 2, 2], (
        "trained in two jobs, scored in one"
    )
    assert [plain.lost(run) for run in RUNS] == [[0.0], [0.0]]


def test_what_is_cancelled_is_left_alone_until_it_is_asked_for(plain: Site) -> None:
    sweep = training(1500, runs=RUNS)
    files = plain.write(sweep)
    follower = plain.begun("launch", files, "--dirty", "--follow")
    until(lambda: all(map(plain.step, RUNS)))
    plain.cancel(files, RUNS[0].id)
    until(lambda: plain.says(files, "cancelled", "training"))
    status, _, err = finished(follower, 300)
    assert status == 1 and err.splitlines()[-1].startswith(f"given up: {RUNS[0].id};")
    assert plain.says(files, "cancelled", "done") and len(plain.jobs()) == 2
    plain.launch(files)
    until(lambda: not missing(sweep, plain.store))
    assert plain.submissions() == {RUNS[0].id: 2, RUNS[1].id: 1} and plain.lost(RUNS[0]) == [0.0]


def test_cancelling_a_sweep_ends_its_follower(plain: Site) -> None:
    files = plain.write(training(ENDLESS, runs=RUNS))
    plain.launch(files, "--detach")
    until(lambda: all(map(plain.step, RUNS)) and plain.queue().get(plain.jobs()[-1]) == "RUNNING")
    plain.cancel(files)
    plain.empty()
    assert len(plain.jobs()) == 3 and plain.says(files, "cancelled", "cancelled")
    assert "nothing to cancel" in plain.harness("cancel", files, "--yes")[1]
