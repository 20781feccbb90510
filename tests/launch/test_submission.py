"""What is submitted, as a fake sbatch reads it; limits, bad nodes, names and retries."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from helpers import ROOT, tiny_protocol, tiny_run, tiny_sweep, train_all

from harness.base.errors import UserError
from harness.base.files import append_lines, read_json, write_json
from harness.launch import snapshot
from harness.launch.follow import Reporter, follow
from harness.launch.job import Job
from harness.launch.jobs import query_jobs
from harness.launch.ledger import given, ledger, read_ledger
from harness.launch.orders import NOMINAL, SMALL_HOURS, Submission, pack
from harness.launch.outcomes import bad_nodes, tries
from harness.launch.outdated import outdated
from harness.launch.submit import Reconciled, submit
from harness.spec import Protocol, Run, Sweep
from harness.study.cluster import Cluster
from harness.study.cost import evaluation
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Evaluate

SWEEP = tiny_sweep(runs=tuple(tiny_run(seed=seed) for seed in range(6)), steps=(10,), protocols=())


def launched(sweep: Sweep, store: Store, asked: bool = True, **fields: Any) -> Reconciled:
    cluster = Cluster(**{"executor": "slurm", "store": str(store.root), **fields})
    wanted = partial(missing, sweep, store)
    return submit(sweep.name, wanted, store, cluster, code_of(store), asked=asked)


def code_of(store: Store) -> Path:
    """A copy of the code, as far as a launch looks at it."""
    folder = store.code("abc")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def flags(script: str) -> dict[str, str]:
    """#SBATCH options by name."""
    rows = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.MULTILINE)
    return {name: value.strip("'\"") for name, value in rows}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_any_option_of_sbatch_may_be_given_and_no_wckey_is(slurm: FakeSlurm, store: Store) -> None:
    launched(
        SWEEP,
        store,
        save_seconds=300,
        sbatch={"reservation": "week 3", "exclusive": True, "mail-user": "a@b"},
        exclude=["node7"],
    )
    asked = flags(slurm.scripts[0])
    assert asked["reservation"] == "week 3" and "exclusive" in asked
    assert asked["mail-user"] == "a@b" and asked["exclude"] == "node7"
    assert not asked.get("wckey") and "requeue" in asked and asked["signal"] == "USR2@300"


def test_the_queue_tells_models_and_scoring_apart(slurm: FakeSlurm, store: Store) -> None:
    models = ("mini-DiT-S/8", "mini-DiT-XL/2", "mini-DiT-S/4")
    sweep = tiny_sweep(runs=tuple(tiny_run(model=model) for model in models))
    launched(sweep, store)
    assert [flags(script)["job-name"] for script in slurm.scripts] == [
        "mini-DiT-XL-2.train.tiny",  # the longest first
        "mini-DiT-S-4.train.tiny",
        "mini-DiT-S-8.train.tiny",
    ]


def test_small_evaluations_of_one_checkpoint_share_a_job_of_one_process(
    slurm: FakeSlurm, store: Store
) -> None:
    """One that fails holds up no other, and leaves the job failed."""
    sweep = tiny_sweep(
        runs=(tiny_run(seed=0), tiny_run(seed=1)),
        steps=(10,),
        protocols=tuple(tiny_protocol(name=f"p{i}", seed=i) for i in range(3)),
    )
    train_all(sweep, store)
    assert len(launched(sweep, store, max_jobs=1).submitted) == 3, "max_jobs counts jobs"
    assert len(launched(sweep, store, nodes=2).submitted) == 3 and len(slurm.jobs) == 4
    first, *_ = sweep.runs
    lines = {task: line for task, line in given(store).items() if task.startswith(first.id)}
    assert len({(line["launch"], line["job"]) for line in lines.values()}) == 1
    broken = store.record(first, 10, sweep.sampling[1])
    broken.mkdir(parents=True)
    (line, *_) = lines.values()
    path = store.submissions() / line["launch"] / "launch.json"
    spec = read_json(path)
    spec["cluster"]["executor"] = "debug"
    write_json(path, {key: spec[key] for key in ("cluster", "environment", "tasks")})
    with pytest.raises(SystemExit, match=re.escape(str(broken))):
        Job(str(path.parent), *lines)()
    broken.rmdir()
    left = [t for t in missing(sweep, store) if t.id in lines]
    assert [t.protocol.name for t in left if isinstance(t, Evaluate)] == ["p1"]


def test_evaluations_that_take_long_have_jobs_of_their_own(slurm: FakeSlurm, store: Store) -> None:
    dear = tuple(Protocol(name=f"p{i}", images=2_000, seed=i) for i in range(2))
    cheap = tuple(Protocol(name=f"q{i}", images=100, seed=2 + i) for i in range(2))
    run = Run(model="DiT-XL/2")
    tasks = [Evaluate(run, 10, p, True, "") for p in (*dear, *cheap)]
    orders = [Submission(t.id, "", {}, Cluster(), 0) for t in tasks]
    hours = [evaluation(run, p, NOMINAL).hours for p in (*dear, *cheap)]
    assert hours[0] > SMALL_HOURS > sum(hours[2:])
    assert [len(jobs) for jobs in pack(tasks, orders)] == [1, 1, 2]


def test_evaluations_of_the_same_samples_share_a_job_or_wait_for_the_first(
    slurm: FakeSlurm, store: Store
) -> None:
    alike = tuple(Protocol(name=f"p{i}", images=2_000 + i) for i in range(3))
    tasks = [Evaluate(Run(model="DiT-XL/2"), 10, p, True, "") for p in alike]
    orders = [Submission(t.id, "", {}, Cluster(), 0) for t in tasks]
    assert [len(jobs) for jobs in pack(tasks, orders)] == [3], "whatever they take"
    sweep = tiny_sweep(
        runs=tiny_run(),
        steps=(10,),
        protocols=tuple(tiny_protocol(name=f"p{i}", images=64 + i) for i in range(3)),
    )
    train_all(sweep, store)
    done = launched(sweep, store, nodes=2)
    assert [task.protocol.name for task in done.submitted if isinstance(task, Evaluate)] == ["p2"]
    assert len(done.postponed) == 2, "jobs of several processes perform one task"
    assert launched(sweep, store, nodes=2).submitted == [], "what waits makes what they need"


def test_a_job_that_waits_with_other_resources_than_the_file_asks_for_is_named(
    slurm: FakeSlurm, store: Store
) -> None:
    def changes(**fields: Any) -> dict[str, list[str]]:
        cluster = Cluster(executor="slurm", store=str(store.root), **fields)
        return outdated(missing(SWEEP, store), store, cluster, query_jobs(store).by_task)

    launched(SWEEP, store, memory_gb=1)
    assert changes(memory_gb=1, throttle=3) == {}
    found = changes(memory_gb=2, models={"mini-DiT-S/8": {"hours": 3}})
    assert set(found) == {run.id for run in SWEEP.runs}
    assert found[SWEEP.runs[0].id] == [
        "memory_gb = 1, 2 in the cluster file",
        "hours = 24, 3 in the cluster file",
    ]
    slurm.set(next(iter(slurm.jobs)), "RUNNING", "node1", "5:00")
    assert len(changes(memory_gb=2)) == len(SWEEP.runs) - 1, "what runs is left alone"


def test_a_limit_on_jobs_is_filled_and_the_rest_comes_later(slurm: FakeSlurm, store: Store) -> None:
    slurm.write("LIMIT", "4")
    done = launched(SWEEP, store)
    assert len(done.submitted) == 3 and len(done.postponed) == 3, "half of six"
    assert len(launched(SWEEP, store).submitted) == 1
    with pytest.raises(UserError, match=r"AssocMaxSubmitJobLimit.*nothing was submitted"):
        launched(SWEEP, store)
    assert len(slurm.jobs) == 4 == len(given(store))
    for job in list(slurm.jobs)[:2]:
        slurm.set(job, "RUNNING", "node1", "5:00")
    slurm.write("LIMIT", "100")
    assert len(launched(SWEEP, store).submitted) == 2


def test_another_refusal_takes_everything_back(slurm: FakeSlurm, store: Store) -> None:
    slurm.write("LIMIT", "0")
    slurm.write("WORDS", "Batch job submission failed: Invalid account")
    with pytest.raises(UserError, match="Invalid account: fix the cluster file"):
        launched(SWEEP, store)
    assert not slurm.jobs and not given(store)
    assert {path.name for path in store.submissions().iterdir()} == {"launch.lock", "code"}


def test_all_jobs_of_a_sweep_are_capped(slurm: FakeSlurm, store: Store) -> None:
    assert len(launched(SWEEP, store, max_jobs=4).submitted) == 4
    assert len(launched(SWEEP, store, max_jobs=4).submitted) == 0
    slurm.forget(next(iter(slurm.jobs)))
    assert len(launched(SWEEP, store, max_jobs=4).submitted) == 1


def test_hours_above_the_partitions_limit_are_refused(slurm: FakeSlurm, store: Store) -> None:
    rows = (
        "main Default=YES MaxTime=1-00:00:00",
        "short MaxTime=00:02:00",
        "long MaxTime=UNLIMITED",
    )
    slurm.write("PARTITIONS", "".join(f"PartitionName={row}\n" for row in rows))
    with pytest.raises(UserError, match=r"hours = 1 is above the limit of short, 0.0333"):
        launched(SWEEP, store, partition="short", hours=1)
    with pytest.raises(UserError, match="above the limit of the default partition, 24:"):
        launched(SWEEP, store, hours=25)
    assert not slurm.scripts
    assert len(launched(SWEEP, store, partition="short,long", hours=100).submitted) == 6


def ended(slurm: FakeSlurm, jobs: list[str], node: str, used: str = "0:03") -> None:
    for job in jobs:
        slurm.set(job, "FAILED", node, used)


def test_a_node_that_fails_every_job_is_excluded_and_eats_no_tries(
    slurm: FakeSlurm, store: Store
) -> None:
    launched(SWEEP, store, retries=2)
    jobs = list(slurm.jobs)
    ended(slurm, jobs[:4], "node4")
    for job in jobs[4:]:
        slurm.set(job, "RUNNING", "node1", "0:30")
    assert len(launched(SWEEP, store, retries=2).submitted) == 4
    assert flags(slurm.scripts[-1])["exclude"] == "node4"
    ended(slurm, [job for job in slurm.jobs if job not in jobs], "node4")
    assert len(launched(SWEEP, store, retries=2).submitted) == 4, "not of their own making"
    for _ in range(2):  # but not for ever
        ended(slurm, list(slurm.jobs)[-4:], "node4")
        last = launched(SWEEP, store, retries=2)
    assert len(last.exhausted) == 4


def test_a_task_that_fails_at_once_where_others_do_not_is_tried_elsewhere(
    slurm: FakeSlurm, store: Store
) -> None:
    launched(SWEEP, store)
    first, *others = slurm.jobs
    ended(slurm, [first], "node4")
    for job in others:
        slurm.set(job, "RUNNING", "node1", "0:30")
    launched(SWEEP, store)
    assert flags(slurm.scripts[-1])["exclude"] == "node4" and not bad_nodes(ledger(store))
    more = tiny_sweep(runs=(tiny_run(seed=9),), steps=(10,), protocols=())
    launched(more, store)
    assert "exclude" not in flags(slurm.scripts[-1]), "one failure does not condemn a node"


def test_what_a_person_cancels_is_no_fault_of_the_node(slurm: FakeSlurm, store: Store) -> None:
    launched(SWEEP, store)
    for job, state in zip(slurm.jobs, 5 * ["CANCELLED"] + ["RUNNING"], strict=True):
        slurm.set(job, state, "node1" if state == "RUNNING" else "node4", "0:30")
    slurm.set(next(iter(slurm.jobs)), "CANCELLED", "node4", "0:03")
    launched(SWEEP, store)
    assert "exclude" not in flags(slurm.scripts[-1])


def test_where_everything_fails_no_node_is_to_blame(slurm: FakeSlurm, store: Store) -> None:
    for _ in range(2):
        launched(SWEEP, store, retries=2)
        jobs = list(slurm.jobs)[-6:]
        ended(slurm, jobs[:3], "node1")
        ended(slurm, jobs[3:], "node2")
    assert len(launched(SWEEP, store, retries=2).exhausted) == 6
    assert not bad_nodes(ledger(store)) and "exclude" not in flags(slurm.scripts[-1])


def test_a_node_without_gpus_is_excluded_at_once(slurm: FakeSlurm, store: Store) -> None:
    one = tiny_sweep(runs=SWEEP.runs[:1], steps=(10,), protocols=())
    launched(one, store)
    ended(slurm, list(slurm.jobs), "node2", "0:20")
    (line,) = given(store).values()
    Path(line["log"]).write_text("this node: gpus_per_node = 2 and torch sees no CUDA\n")
    launched(one, store)
    assert flags(slurm.scripts[-1])["exclude"] == "node2"
    (tried,) = tries(store).values()
    assert (tried.jobs, tried.node_faults) == (2, 1) and tried.error.startswith("this node: gpus")


def test_more_memory_after_an_end_for_want_of_it(slurm: FakeSlurm, store: Store) -> None:
    one = tiny_sweep(runs=SWEEP.runs[:1], steps=(10,), protocols=())
    for _ in range(3):
        launched(one, store, memory_gb=4, memory_growth=1.5)
        slurm.set(list(slurm.jobs)[-1], "OUT_OF_MEMORY", "node1", "10:00")
    assert [flags(script)["mem"] for script in slurm.scripts] == ["4GB", "6GB", "9GB"]


def test_a_follower_backs_off_and_waits_for_files(slurm: FakeSlurm, store: Store) -> None:
    one = tiny_sweep(runs=SWEEP.runs[:1], steps=(10,), protocols=())
    for state, wait in (("FAILED", {"poll_seconds": 60}), ("COMPLETED", {"poll_seconds": 0.001})):
        launched(one, store)
        slurm.set(list(slurm.jobs)[-1], state, "node1", "10:00")
        assert len(launched(one, store, asked=False, **wait).postponed) == 1
    done = launched(one, store, asked=False, poll_seconds=0.001, latency_seconds=0)
    assert len(done.submitted) == 1


def test_nobody_else_can_read_a_launch_and_values_of_the_environment_are_not_kept(
    slurm: FakeSlurm, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(executor="slurm", store=str(store.root), environment={"TOKEN": "secret word"})
    submit("tiny", partial(missing, SWEEP, store), store, cluster, code_of(store))
    (line, *_) = given(store).values()
    folder = store.submissions() / line["launch"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "launch.json").stat().st_mode) == 0o600
    assert "secret" not in (folder / "launch.json").read_text()
    assert "export TOKEN='secret word'" in slurm.scripts[0]
    spec = read_json(folder / "launch.json")  # without the copy of the code: this is not it
    write_json(folder / "launch.json", {key: spec[key] for key in spec if key != "code"})
    monkeypatch.setenv("TOKEN", "secret word")
    job = Job(str(folder), line["task"])
    assert job.load()[1].environment == {"TOKEN": "secret word"}, "a follower passes it on"


def test_what_a_launch_left_that_was_killed_before_it_submitted_is_removed_by_the_next(
    slurm: FakeSlurm, store: Store
) -> None:
    launched(SWEEP, store)
    (whole,) = {line["launch"] for line in given(store).values()}
    dead = store.submissions() / "20260101T000000000000"
    dead.mkdir()
    (dead / ".launch.json.node.1.ab").write_text("half")
    more = tiny_sweep(runs=(tiny_run(seed=9),), steps=(10,), protocols=())
    launched(more, store)
    assert not dead.exists() and (store.submissions() / whole / "launch.json").exists()


def test_a_job_without_its_code_ends_before_python(slurm: FakeSlurm, store: Store) -> None:
    launched(SWEEP, store)
    script = slurm.folder / "SCRIPTS" / "1.sh"
    done = subprocess.run(["bash", script], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0 and slurm.calls("srun")
    (slurm.folder / "calls").unlink()
    shutil.rmtree(code_of(store))
    done = subprocess.run(["bash", script], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 1 and "is gone, the code of this job: launch again" in done.stderr
    assert not (slurm.folder / "calls").exists(), "no other code is run instead"


def test_a_job_runs_the_code_of_its_launch_and_no_other(tmp_path: Path) -> None:
    code = tmp_path / "code"
    shutil.copytree(ROOT / "harness", code / "harness", ignore=shutil.ignore_patterns("*.npz"))
    described = snapshot.describe(code)
    script = (
        "import json, sys\n"
        "from harness.launch.snapshot import check\n"
        "check(json.loads(sys.argv[1]))\n"
    )

    def checked(path: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(described)],
            env=os.environ | {"PYTHONPATH": str(path)},
            cwd=path,
            capture_output=True,
            text=True,
        )
        return done.stderr.strip().splitlines()[-1] if done.returncode else ""

    assert checked(code) == ""
    assert "the copy of its launch: run harness launch again" in checked(ROOT)
    with (code / "harness" / "spec" / "run.py").open("a") as file:
        file.write("\n")
    assert "was changed after the launch" in checked(code)


def test_a_follower_reports_and_tries_again_what_was_refused(
    slurm: FakeSlurm, store: Store
) -> None:
    said: list[str] = []
    stopped: list[int] = []

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 1:
            slurm.refuse("")
        if "wait or run" in line:
            stopped.append(15)

    cluster = Cluster(executor="slurm", store=str(store.root), poll_seconds=0.01)
    slurm.refuse("Invalid account")
    with pytest.raises(UserError, match="Invalid account"):
        follow(SWEEP, store, cluster, code_of(store), said.append)
    assert not said, "a person who asks sees the refusal itself"
    assert follow(SWEEP, store, cluster, code_of(store), say, asked=False, stopped=stopped) == []
    assert said[0].endswith("retrying every 0.01 s") and said[-1].startswith("6 jobs wait")


def test_a_follower_says_the_same_thing_once() -> None:
    said: list[str] = []
    report = Reporter(said.append)
    for line in ("refused", "refused", "refused", "2 jobs", "refused"):
        report(line)
    assert said == ["refused", "2 jobs", "refused"]


def test_silent_jobs_are_ended_where_that_is_asked_for(slurm: FakeSlurm, store: Store) -> None:
    launched(SWEEP, store)
    first, second = list(slurm.jobs)[:2]
    stopped: list[int] = []
    for job, used in ((first, "1:00:00"), (second, "0:10")):
        slurm.set(job, "RUNNING", "node1", used)
        log = next(Path(x["log"]) for x in given(store).values() if x["job"] == job)
        log.write_text(" 10% step 1\n")
        os.utime(log, (0, 0))
    cluster = Cluster(executor="slurm", store=str(store.root), hang_minutes=30)
    follow(
        SWEEP,
        store,
        cluster,
        code_of(store),
        lambda line: stopped.append(15),
        False,
        False,
        stopped,
    )
    assert slurm.calls("scancel") == [f"scancel --quiet {first}"]


def test_commands_of_the_user_are_run(slurm: FakeSlurm, store: Store, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    line = f'echo "$HARNESS_SWEEP $HARNESS_TASK" >> {notes}'
    cluster = Cluster(
        executor="slurm",
        store=str(store.root),
        retries=1,
        on_failure=f"failed=1; {line}",
        on_done=line,
    )
    one = tiny_sweep(runs=SWEEP.runs[:1], steps=(10,), protocols=())
    launched(one, store)
    ended(slurm, list(slurm.jobs), "node1")
    assert follow(one, store, cluster, code_of(store), print, asked=False) == [one.runs[0].id]
    train_all(one, store)
    assert follow(one, store, cluster, code_of(store), print, asked=False) == []
    assert notes.read_text() == f"tiny {one.runs[0].id}\ntiny \n"


def test_lines_of_the_ledger_that_are_none_are_skipped_by_name(store: Store) -> None:
    line = {"task": "a", "job": "1", "executor": "slurm", "launch": "L", "name": "tiny", "log": ""}
    append_lines(store.ledger(), [line | {"at": 0, "retry": False}])
    with store.ledger().open("a") as file:
        file.write('{"task": "b", "jo')
    append_lines(store.ledger(), [line | {"task": "c", "at": 0, "retry": False}])
    append_lines(store.ledger(), [{"task": "x", "job": 7}, {"note": "hello"}])
    lines, warnings = read_ledger(store)
    assert [line["task"] for line in lines] == ["a", "c"], "the torn line swallows none"
    assert len(warnings) == 3 and all(str(store.ledger()) in warning for warning in warnings)
