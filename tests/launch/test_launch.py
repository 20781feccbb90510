"""The launcher without a cluster: what it asks Slurm for, and how it reads its answers."""

from __future__ import annotations

import os
import pickle
import threading
import time
from pathlib import Path

import pytest
from helpers import tiny_run, tiny_sweep

from harness.base.files import append_lines, write_json
from harness.base.locks import claim
from harness.launch import local, sbatch, slurm_commands
from harness.launch.job import Job
from harness.launch.jobs import cancel, jobs_or_last_known, query_jobs
from harness.launch.ledger import cancelled, find
from harness.launch.logs import last_error, log_text
from harness.launch.outcomes import tries
from harness.launch.submit import exhausted
from harness.launch.tickets import SchedulerUnavailable
from harness.study.checks import batch_problems
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Train

LINE = {
    "executor": "slurm",
    "launch": "L1",
    "name": "tiny",
    "retry": False,
    "log": "",
    "at": 0,
    "user": "root",
}
SCRIPT = "/store/jobs/L1/.submission_file_1.sh"  # as submitit names it


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> Path:
    """A command first on the path, and the file where its calls are written down."""
    command, calls = folder / name, folder / f"{name}.calls"
    command.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{script}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return calls


def test_one_question_for_all_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (
        f"7_0|RUNNING|node1|1:00|None|L1|{SCRIPT}",
        f"7_1|PENDING||0:00|Resources|L1|{SCRIPT}",
        f"7_2|FAILED|node1|0:05|None|L1|{SCRIPT}",
        # The id of a lost job, reused.
        "8|RUNNING|node[1,3]|1-00:00:01|None|a|b|/other/jobs/L9/submission_file_2.sh",
        f"9|COMPLETING|node1|2:00:00|None|a comment | of the site|{SCRIPT}",
        "11|RUNNING|node1|0:01|None|L2|(null)",
        "12|RUNNING|node1|0:01|None|(null)|/home/me/train.sh",
    )
    calls = fake(tmp_path, monkeypatch, "squeue", f"printf '%s\\n' {' '.join(map(repr, answer))}")
    store = Store(tmp_path / "store")
    jobs = ("7_0", "7_1", "7_2", "8", "9", "10")  # nobody knows of 10: it is lost
    append_lines(store.ledger(), [{"task": f"t{job}", "job": job, **LINE} for job in jobs])
    write_json(
        store.submissions() / "L2" / "launch.json", {}
    )  # a launch that never got to the ledger
    seen = query_jobs(store, "slurm")
    assert {task: (ticket.state, ticket.reason) for task, ticket in seen.by_task.items()} == {
        "t7_0": ("RUNNING", "None"),
        "t7_1": ("PENDING", "Resources"),
        "t9": ("COMPLETING", "None"),
    }
    assert [ticket.job for ticket in seen.untracked] == ["11"]
    assert calls.read_text().count("\n") == 1 and "--user=0 " in calls.read_text()


def test_accounting_answers_where_the_queue_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    append_lines(store.ledger(), [{"task": f"t{i}", "job": f"7_{i}", **LINE} for i in range(5)])
    fake(tmp_path, monkeypatch, "squeue", "echo down >&2; exit 1")
    jobs, said = jobs_or_last_known(store)
    assert jobs == {} and said == "the scheduler does not answer (down): only the store is shown"
    with pytest.raises(SchedulerUnavailable, match="down"):  # nothing is submitted on hearsay
        query_jobs(store)
    fake(
        tmp_path,
        monkeypatch,
        "sacct",
        "echo '7_0|CANCELLED by 0|node1|5'; echo '7_[1-2,9%1]|PENDING|None assigned|0'\n"
        "echo '7_3|RUNNING|node1|5'",
    )
    jobs, said = jobs_or_last_known(store)
    assert {task: ticket.state for task, ticket in jobs.items()} == {
        "t1": "PENDING",
        "t2": "PENDING",
        "t3": "RUNNING",
        "t4": "UNKNOWN",
    }
    assert said == "the scheduler does not answer (down): jobs are as accounting last recorded them"


def test_a_thousand_jobs_are_asked_about_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake(
        tmp_path,
        monkeypatch,
        "squeue",
        'for i in $(seq 0 999); do echo "7_$i|RUNNING|node1|0:01|None|L1|(null)"; done',
    )
    store = Store(tmp_path / "store")
    append_lines(store.ledger(), [{"task": f"t{i}", "job": f"7_{i}", **LINE} for i in range(1000)])
    assert len(query_jobs(store).by_task) == 1000 and calls.read_text().count("\n") == 1


def test_what_is_cancelled_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, monkeypatch, "squeue", "echo '7_0|RUNNING|node1|0:01|None|L1|(null)'")
    calls = fake(tmp_path, monkeypatch, "scancel", "")
    store = Store(tmp_path / "store")
    append_lines(store.ledger(), [{"task": "t", "job": "7_0", **LINE}])
    assert [ticket.job for ticket in cancel(["t", "u"], store)] == ["7_0"]
    assert calls.read_text() == "--quiet 7_0\n" and cancelled(store).keys() == {"t", "u"}
    append_lines(store.ledger(), [{"task": "t", "job": "7_1", **LINE}])
    assert cancelled(store).keys() == {"u"} and find("t", store)["job"] == "7_1"
    fake(tmp_path, monkeypatch, "scancel", "echo Access denied >&2; exit 1")
    append_lines(store.ledger(), [{"task": "t", "job": "7_0", **LINE}])
    with pytest.raises(SchedulerUnavailable, match="Access denied"):
        cancel(["t"], store)
    assert cancelled(store).keys() == {"u"}, "what could not be ended is not called cancelled"


def test_what_slurm_is_asked_for(tmp_path: Path) -> None:
    cluster = Cluster(
        executor="slurm",
        partition="gpu",
        nodes=2,
        gpus_per_node=4,
        hours=1.5,
        setup=["module load cuda"],
        environment={"WORD": "a b"},
        models={"DiT-XL/2": {"hours": 0.01}},
    )
    asked = sbatch.parameters(sbatch.Request([], "grid", cluster), "L1", tmp_path / "abc")
    assert (asked["timeout_min"], asked["slurm_signal_delay_s"], asked["tasks_per_node"]) == (
        90,
        120,
        4,
    )
    assert asked["slurm_setup"][:3] == [
        "export WORD='a b'",
        "export HARNESS_COMMIT=abc",
        "module load cuda",
    ]
    assert "slurm_account" not in asked and "mem_gb" not in asked
    small = sbatch.Request([], "grid", cluster.of("DiT-XL/2", False))
    short = sbatch.parameters(small, "L1", tmp_path)
    assert (short["timeout_min"], short["slurm_signal_delay_s"]) == (1, 15)


def test_the_environment_is_clean_while_submitting(monkeypatch: pytest.MonkeyPatch) -> None:
    leaks, kept = (
        {"SBATCH_PARTITION", "SLURM_MEM_PER_NODE", "SQUEUE_STATES", "WORLD_SIZE"},
        {"SLURM_CONF", "SLURMS"},
    )
    for name in leaks | kept:
        monkeypatch.setenv(name, "x")
    with slurm_commands.slurm_free_env():
        assert os.environ.keys() & (leaks | kept) == kept
    assert leaks | kept <= os.environ.keys()


def test_only_a_name_and_a_folder_are_pickled() -> None:
    job = Job("/shared/launch", tiny_run().id)
    assert vars(pickle.loads(pickle.dumps(job))) == {
        "folder": "/shared/launch",
        "tasks": (tiny_run().id,),
    }
    assert vars(job.checkpoint().function) == vars(job)


def test_a_task_is_exhausted_until_it_is_retried_gets_on_or_is_cancelled(tmp_path: Path) -> None:
    store, cluster, run = Store(tmp_path), Cluster(retries=2), tiny_run()

    def worn(start: int, **line: object) -> bool:
        append_lines(store.ledger(), [{"task": run.id, **line}])
        return bool(exhausted([Train(run, (10,), start, "")], tries(store), store, cluster))

    line = {"job": "1", **LINE}
    assert not worn(0, **line) and worn(0, **line)
    assert not worn(5), "its last job got on"
    assert not exhausted([Train(run, (10,), 5, "")], tries(store), store, cluster), (
        "its last job got on"
    )
    assert [worn(0, **line | {"retry": True}), worn(0, **line)] == [False, True]
    assert [worn(0, cancelled=True), worn(0, **line), worn(0, **line)] == [False, False, True]
    assert [worn(5, **line | {"at": 5}), worn(5, **line | {"at": 5})] == [False, True], (
        "from step 5 it begins anew"
    )


def test_evaluations_have_retries_of_their_own(tmp_path: Path) -> None:
    store, sweep = Store(tmp_path), tiny_sweep(steps=(10,))
    tasks = missing(sweep, store)
    append_lines(store.ledger(), [{"task": task.id, "job": "1", **LINE} for task in tasks])
    cluster = Cluster(retries=1, evaluate={"retries": 2})
    assert exhausted(tasks, tries(store), store, cluster) == {tasks[0].id}
    append_lines(store.ledger(), [{"task": tasks[1].id, "job": "2", **LINE}])
    assert exhausted(tasks, tries(store), store, cluster) == {task.id for task in tasks}
    shard = store.shards(sweep.runs[0], 10, sweep.sampling[0]) / "00000.safetensors"
    shard.parent.mkdir(parents=True)
    shard.touch()
    assert tasks[1].position(store) == 1 and exhausted(tasks, tries(store), store, cluster) == {
        tasks[0].id
    }


def test_logs_are_found_by_the_beginning_of_a_name(tmp_path: Path) -> None:
    store, log = Store(tmp_path), tmp_path / "1.err"
    log.write_text(" 10% step 1\nharness: no such file\n 20% step 2\n")
    append_lines(
        store.ledger(),
        [{"task": task, "job": "1", **LINE, "log": str(log)} for task in ("ab", "abc", "b")],
    )
    assert [find(name, store)["task"] for name in ("ab", "abc", "b")] == ["ab", "abc", "b"]
    with pytest.raises(ValueError, match="task 'c' is not in"):
        find("c", store)
    assert "".join(log_text(log, lambda: True, 1)) == log.read_text()
    assert last_error(find("b", store)) == "harness: no such file"


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    def hold() -> None:
        with claim(tmp_path / "lock") as mine:
            held.append(bool(mine))
            time.sleep(0.5)

    held: list[bool] = []
    first = threading.Thread(target=hold)
    first.start()
    while not held:
        time.sleep(0.01)
    with (
        claim(tmp_path / "lock", patience=0.1) as hasty,
        claim(tmp_path / "lock", patience=20) as patient,
    ):
        assert (bool(hasty), bool(patient)) == (False, True)
    first.join()


def test_a_silent_sbatch_is_not_waited_for_without_end() -> None:
    with (
        pytest.raises(SchedulerUnavailable, match="sbatch did not answer in 1 s"),
        slurm_commands.deadline(1),
    ):
        time.sleep(60)
    with slurm_commands.deadline(1):
        pass
    time.sleep(1.1)  # the alarm is off


def test_gpus_must_divide_every_batch() -> None:
    tasks = [
        Train(tiny_run(model=m, batch_size=b), (10,), 0, "")
        for m, b in (
            ("mini-DiT-S/8", 8),
            ("mini-DiT-S/4", 12),
            ("mini-DiT-B/4", 12),
            ("mini-DiT-B/8", 16),
        )
    ]
    cluster = Cluster(
        executor="slurm", nodes=2, gpus_per_node=4, models={"mini-DiT-B/8": {"gpus_per_node": 2}}
    )
    assert batch_problems(tasks, cluster) == [
        "nodes × gpus_per_node = 8 does not divide the batch of 12 of"
        " mini-DiT-B/4, mini-DiT-S/4: ask for 6"
    ]


def test_the_file_system_of_a_folder() -> None:
    assert (
        local.file_system(Path("/proc/self/fd")) == "proc"
        and local.file_system(Path("/sys/none")) == "sysfs"
    )
