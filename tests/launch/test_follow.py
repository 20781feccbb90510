"""The follower without a cluster: what it leaves alone, and its life as a local job."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import ROOT, run_verb, tiny_protocol, tiny_run, tiny_sweep, written

from harness.launch.follow import follow
from harness.launch.follower import REQUEUE_TRAP, from_json, prefix, to_json
from harness.launch.jobs import cancel
from harness.launch.ledger import given, ledger
from harness.spec import Validation
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store

SWEEP = tiny_sweep(runs=(tiny_run(), tiny_run(seed=1)))


def until(check: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300  # of a loaded machine
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("own_steps", [False, True])
def test_a_sweep_survives_the_way_through_json(own_steps: bool) -> None:
    protocols = (
        tiny_protocol(),
        tiny_protocol(name="other", reference_digest="ab"),
        Validation(name="val", points=2_000),
    )
    pairs = dict(zip(protocols, [(20,), (10, 20), (10,)], strict=True))
    runs = {tiny_run(data="digits-split", seed=s): (10, 20)[: s + 1] for s in (0, 1)}
    own = {"runs": (), "trained": runs, "protocols": pairs} if own_steps else {"runs": [*runs]}
    sweep = tiny_sweep(**{"protocols": protocols, "keep": ("latents",), **own})
    assert from_json(json.loads(json.dumps(to_json(sweep)))) == sweep


def test_a_detached_follower_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sweep, store = tiny_sweep(steps=(10,)), Store(tmp_path / "store")
    words = (written(sweep, tmp_path), "--store", store.root)
    assert run_verb(capsys, "launch", *words, "--detach")[0] == 0
    name = next(task for task in given(store) if task.startswith(prefix(sweep)))
    assert "submitted earlier" in run_verb(capsys, "launch", *words, "--detach")[1].splitlines()[-1]
    line = f"follower: job {given(store)[name]['job']} RUNNING"
    until(lambda: line in run_verb(capsys, "status", *words)[1])
    until(lambda: not missing(sweep, store))
    until(lambda: "ended nothing is missing" in run_verb(capsys, "status", *words)[1])
    assert set(Counter(line["task"] for line in ledger(store) if "job" in line).values()) == {1}
    assert run_verb(capsys, "launch", *words, "--detach")[1].startswith(
        "0 jobs submitted, 0 already queued or running"
    )
    assert "nothing is missing" in run_verb(capsys, "logs", "follower", "--store", store.root)[1]


def test_a_follower_leaves_alone_what_was_cancelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, cluster = Store(tmp_path / "store"), Cluster(executor="debug")
    both = [task.id for task in missing(SWEEP, store)]
    cancel([name for name in both if name.startswith(SWEEP.runs[0].id)], store)
    left = follow(SWEEP, store, cluster, ROOT, print, asked=False)
    assert left == sorted(name for name in both if name.startswith(SWEEP.runs[0].id))
    words = (written(SWEEP, tmp_path), "--store", store.root)
    assert [
        run["state"] for run in json.loads(run_verb(capsys, "status", *words, "--json")[1])["runs"]
    ] == [
        "cancelled",
        "done",
    ]
    assert follow(SWEEP, store, cluster, ROOT, print) == [], "a person asks anew"


@pytest.mark.parametrize(
    ("end", "state", "deaths", "again"),
    [
        ("true", "RUNNING", 0, False),
        ("kill -9 $BASHPID", "RUNNING", 0, True),
        ("false", "COMPLETING", 0, False),
        ("false", "RUNNING", 2, True),
        ("false", "RUNNING", 3, False),
    ],
)
def test_the_shell_puts_a_follower_back_that_was_killed(
    end: str, state: str, deaths: int, again: bool, tmp_path: Path
) -> None:
    for name, script in (("squeue", f"echo {state}"), ("scontrol", f"echo $@ >> {tmp_path}/asked")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "deaths.7").write_text("\n" * deaths)
    script = f"{REQUEUE_TRAP.replace('FOLDER', str(tmp_path))}\n({end})\n"
    subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"},
        check=False,
    )
    assert (tmp_path / "asked").exists() == again
