"""The launcher on a real Slurm: what it asks for, what it survives, what it says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from unittest.mock import ANY

import pytest
from helpers import curve, finished, started, tiny_protocol, tiny_run, tiny_sweep
from lab import Lab, end, until
from site_verbs import Site

from harness.ledger import ledger
from harness.plan import missing
from harness.spec import Sweep
from harness.store import Store, read_json, read_lines

HOSTILE = {
    "SBATCH_PARTITION": "nowhere", "SBATCH_TIMELIMIT": "7", "SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "2",
    "SLURM_JOB_ID": "1", "SQUEUE_STATES": "FAILED", "RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere",
}  # fmt: skip
FOUR_RUNS = tuple(tiny_run(seed=seed) for seed in range(4))


def training(steps: int, **fields: Any) -> Sweep:
    return tiny_sweep(steps=(steps,), protocols=(), **fields)


def step(site: Site, sweep: Sweep) -> int:
    """How far the log of the first run has come."""
    lines, _ = site.store.read_log(sweep.runs[0])
    return int(lines[-1]["step"]) if lines else 0


def starts(site: Site, sweep: Sweep) -> list[int]:
    """Where each attempt began."""
    return [read_lines(path)[0][0]["start"] for path in site.store.logs(sweep.runs[0])]


def undisturbed(site: Site, sweep: Sweep, files: tuple[Any, Any]) -> Store:
    """The store of the same sweep, run on this machine."""
    store = Store(site.folder / "local")
    status, _, err = finished(started("run", files[0], "--store", store.root, "--device", "cpu"))
    assert status == 0, err
    return store


def test_a_grid_is_trained_and_scored_as_on_this_machine(full: Site) -> None:
    sweep = tiny_sweep(runs=tuple(tiny_run(model=f"mini-DiT-S/{patch}") for patch in (8, 4)))
    files = full.write(sweep, evaluate={"partition": "low", "hours": 0.5}, gpus_per_node=1)
    out = full.launch(files, "--follow", **HOSTILE)
    assert missing(sweep, full.store) == [] and out.count("submitted ") == 6
    assert max(Counter(line["task"] for line in ledger(full.store)).values()) == 1
    local = undisturbed(full, sweep, files)
    for run in sweep.runs:
        assert curve(full.store, run) == curve(local, run)
        for at in sweep.steps:
            records = [read_json(store.record(run, at, tiny_protocol())) for store in (full.store, local)]
            assert records[0]["values"] == records[1]["values"]
    assert full.launch(files).startswith("0 jobs submitted, 0 from before")
    used = full.lab.run("sacct", "-X", "-n", "-P", "--format=Partition,Timelimit").split()
    assert set(used) == {"main|01:00:00", "low|00:30:00"}  # not what the environment said


def test_two_launches_at_once_submit_once_and_all_is_cancelled(plain: Site) -> None:
    sweep = training(100_000, runs=FOUR_RUNS)
    files = plain.write(sweep, throttle=1)
    words = ("launch", files[0], "--dirty", "--cluster", files[1])
    both = [started(*words, SLURM_CONF=plain.lab.env["SLURM_CONF"]) for _ in range(2)]
    ends = [finished(process) for process in both]
    assert [status for status, _, _ in ends] == [0, 0] and len(plain.jobs()) == 4, ends
    until(lambda: step(plain, sweep) > 0)

    _, out, _ = plain.harness("status", files, "--json")
    tickets = [job for run in json.loads(out)["runs"] for job in run["jobs"].values()]
    assert Counter((t["state"], t["reason"]) for t in tickets) == {
        ("RUNNING", "None"): 1, ("PENDING", "JobArrayTaskLimit"): 3,
    }  # fmt: skip
    status, out, _ = plain.harness("logs", (sweep.runs[0].id, files[1]))
    assert status == 0 and "step 20/100000" in out

    # One pending element and the running one are lost, and asked for again.
    array = plain.jobs()[0].split("_")[0]
    plain.lab.run("scancel", f"{array}_3", f"{array}_0")
    until(lambda: f"{array}_0" not in plain.queue())
    before = step(plain, sweep)
    assert plain.launch(files).count("submitted mini") == 2 and len(plain.jobs()) == 6
    status, out, _ = plain.harness("cancel", files, sweep.runs[1].id, "--yes")
    assert status == 0 and "1 jobs cancelled" in out
    until(lambda: len(plain.queue()) == 3 and len(starts(plain, sweep)) == 2)
    assert starts(plain, sweep)[1] == before  # the cancelled job had saved what it did
    plain.harness("cancel", files, "--yes")
    plain.empty()
    assert "nothing to cancel" in plain.harness("cancel", files, "--yes")[1]


@pytest.mark.parametrize("site", ["plain", "full"])
def test_the_preempted_go_on_where_they_were(site: str, request: pytest.FixtureRequest) -> None:
    here: Site = request.getfixturevalue(site)
    sweep = training(700)
    files = here.write(sweep, partition="low", cpus_per_task=4)
    here.launch(files)
    until(lambda: step(here, sweep) >= 40)
    here.lab.run("sbatch", "--partition=main", "--nodes=4", "--cpus-per-task=4", "--output=/dev/null", "--wrap=true")
    until(lambda: not missing(sweep, here.store))
    here.empty()
    assert len(starts(here, sweep)) == 2 and starts(here, sweep)[1] >= 40 and len(here.jobs()) == 1
    assert curve(here.store, sweep.runs[0]) == curve(undisturbed(here, sweep, files), sweep.runs[0])


def test_ranks_on_two_nodes_survive_requeue_and_signal(plain: Site) -> None:
    sweep = training(500)
    files = plain.write(sweep, nodes=2, gpus_per_node=1)
    plain.launch(files)
    job = plain.jobs()[0]
    for how in (("scontrol", "requeue"), ("scancel", "--signal=USR2")):
        at = step(plain, sweep)
        until(lambda at=at: step(plain, sweep) >= at + 40)  # type: ignore[misc]
        plain.lab.run(*how, job)
        until(lambda: plain.queue().get(job) == "PENDING")
    until(lambda: not missing(sweep, plain.store))
    begun = starts(plain, sweep)
    assert len(begun) == 3 and 0 < begun[1] < begun[2] and plain.jobs() == [job]
    assert [read_lines(path)[0][0]["world"] for path in plain.store.logs(sweep.runs[0])] == [2, 2, 2]
    alone = curve(undisturbed(plain, sweep, files), sweep.runs[0])
    for ours, theirs in zip(curve(plain.store, sweep.runs[0]), alone, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)


def test_what_sbatch_refuses_leaves_nothing(plain: Site) -> None:
    sweep = tiny_sweep(runs=tuple(tiny_run(model=f"mini-DiT-S/{patch}") for patch in (8, 4)))
    files = plain.write(sweep, models={"mini-DiT-S/4": {"partition": "nowhere"}})
    status, out, err = plain.harness("launch", files, "--dirty")
    assert status == 1 and out == "" and err.count("\n") == 1 and err.count("invalid partition specified: nowhere") == 1
    assert {path.name for path in plain.store.submissions().iterdir()} == {"launch.lock", "code"}
    plain.empty()  # the first array was taken back
    assert not plain.store.ledger().exists()


def test_more_ranks_than_a_batch_has_images_are_refused(plain: Site) -> None:
    status, _, err = plain.harness("launch", plain.write(tiny_sweep(), nodes=9), "--dirty")
    assert status == 1 and err.count("\n") == 1 and "9 processes are too many for the batch of 8" in err


def test_more_tasks_than_an_array_may_have(plain: Site) -> None:
    sweep = training(100, runs=tuple(tiny_run(seed=seed) for seed in range(150)))
    files = plain.write(sweep, nodes=4, cpus_per_task=4, throttle=1)
    assert plain.launch(files).count("submitted mini") == 150
    assert Counter(job.split("_")[0] for job in plain.jobs()).most_common() == [(ANY, 101), (ANY, 49)]


@pytest.mark.parametrize("site", ["plain", "full"])
def test_status_without_the_scheduler(site: str, request: pytest.FixtureRequest) -> None:
    here: Site = request.getfixturevalue(site)
    sweep = training(100_000, runs=FOUR_RUNS)
    files = here.write(sweep, throttle=1)
    here.launch(files)
    until(lambda: step(here, sweep) > 0)
    without(here.lab, "slurmctld")
    try:
        status, out, _ = here.harness("status", files, "--json")
        found = json.loads(out)
        assert status == 0 and found["runs"][0]["state"] == "training"
        if here.lab.accounting:
            states = [ticket["state"] for run in found["runs"] for ticket in run["jobs"].values()]
            assert states == ["RUNNING", *["PENDING"] * 3] and found["scheduler"] == ""
        else:
            assert "does not answer" in found["scheduler"]
            _, _, err = here.harness("launch", files, "--dirty")
            assert "contact slurm controller" in err and err.count("\n") == 1
    finally:
        here.lab.run("slurmctld")
        until(lambda: here.lab.run("scontrol", "ping").count("UP"))


def without(lab: Lab, program: str) -> None:
    path = lab.folder / f"{program}.pid"
    end(int(path.read_text()), program)
    path.unlink(missing_ok=True)


def test_no_slurm_on_the_path(tmp_path_factory: pytest.TempPathFactory) -> None:
    site = Site(Lab(tmp_path_factory.mktemp("none"), 0), tmp_path_factory.mktemp("site"))
    for words in ((), ("--follow",)):
        status, out, err = site.harness("launch", site.write(tiny_sweep()), "--dirty", *words, PATH="/nonexistent")
        assert status == 1 and out == "" and err == "harness: no Slurm here: scontrol is not on the path\n"
