"""Bad nodes, limits and cleaned folders on a real Slurm, and what status says of them."""

from __future__ import annotations

import shutil

from helpers import tiny_run
from processes import until
from site_verbs import ENDLESS, Site, training

from harness.launch.ledger import ledger
from harness.study.plan import missing

RUNS = tuple(tiny_run(seed=seed) for seed in range(3))


def test_gpus_that_torch_does_not_see_are_the_nodes_fault(plain: Site) -> None:
    files = plain.write(training(ENDLESS, runs=RUNS[:1]), gpus_per_node=1, device="auto")
    plain.launch(files)
    plain.empty()
    (run,) = plain.status(files)["runs"]
    assert run["state"] == "failed" and run["error"].startswith("this node: ")
    plain.launch(files)
    plain.empty()
    (end,) = [line for line in ledger(plain.store) if "ended" in line]
    assert end["environment"] and end["ended"] == "FAILED" and end["seconds"] < 60
    first, second = plain.store.submissions().glob("*/*_submission.sh")
    script = max(first, second, key=lambda path: path.parent.name).read_text()
    assert f"#SBATCH --exclude={end['node']}" in script


def test_a_limit_on_jobs_is_filled_and_followed(full: Site) -> None:
    sweep = training(20, runs=RUNS[:3])
    files = full.write(sweep)
    full.lab.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=2")
    follower = full.begun("launch", files, "--dirty", "--follow")
    try:
        assert follower.wait(240) == 0 and not missing(sweep, full.store)
    finally:
        follower.kill()
        full.lab.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    assert set(full.submissions().values()) == {1}


def test_a_changed_comment_loses_no_job_and_lost_code_runs_no_other(plain: Site) -> None:
    files = plain.write(training(ENDLESS, runs=RUNS[:2]), throttle=1)
    plain.launch(files)
    plain.trains(RUNS[0])
    for job in plain.jobs():
        plain.lab.run("scontrol", "update", f"jobid={job}", "comment=changed", "name=other")
    assert plain.says(files, "training", "queued")
    assert "0 jobs submitted, 2 already queued or running" in plain.launch(files)
    for code in (plain.store.submissions() / "code").iterdir():
        shutil.rmtree(code)
    plain.cancel(files, RUNS[0].id)
    until(lambda: plain.says(files, "cancelled", "failed"))
    assert "is gone, the code of this job" in plain.status(files)["runs"][1]["error"]
    assert not plain.store.logs(RUNS[1])
