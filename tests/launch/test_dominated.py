"""A follower that is told to ends what will not reach the frontier, and says why; once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from helpers import scored, tiny_run, tiny_sweep

from harness.cli.status import status_json
from harness.launch.dominated import end_dominated
from harness.launch.ledger import cancelled
from harness.launch.submit import submit
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store

RUNS = (*(tiny_run(seed=seed) for seed in range(5)), tiny_run(model="mini-DiT-S/4"))
SWEEP, SLOW = tiny_sweep(runs=RUNS), RUNS[5]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five finished runs about 200, and one that is at 900 where they were at 400."""
    made = Store(tmp_path / "store")
    for run, first, last in zip(
        RUNS, (400, 420, 380, 410, 390), (200, 215, 188, 206, 193), strict=False
    ):
        scored(made, run, 10, first)
        scored(made, run, 20, last)
    scored(made, SLOW, 10, 900)
    return made


def clusters(store: Store) -> tuple[Cluster, Cluster]:
    fields = {"executor": "slurm", "store": str(store.root)}
    return Cluster(**fields), Cluster(**fields, stop_dominated=True)  # type: ignore[arg-type]


def launch(store: Store, cluster: Cluster, asked: bool) -> set[str]:
    code = store.code("abc") / "harness"
    code.mkdir(parents=True, exist_ok=True)
    (code / "__init__.py").touch()
    find = partial(missing, SWEEP, store)
    done = submit("tiny", find, store, cluster, code.parent, asked=asked)
    return {task.id for task in done.submitted}


def test_a_dominated_training_is_ended_once_and_a_person_has_the_last_word(
    slurm: FakeSlurm, store: Store
) -> None:
    plain, strict = clusters(store)
    said: list[str] = []
    assert launch(store, strict, True) == {SLOW.id}
    (job,) = slurm.jobs
    end_dominated(SWEEP, store, plain, said.append)
    assert (said, slurm.calls("scancel")) == ([], [])

    end_dominated(SWEEP, store, strict, said.append)
    assert len(slurm.calls("scancel")) == 1 and job in slurm.calls("scancel")[0]
    (line,) = said
    assert line.startswith(f"stopped {SLOW.id}: fid at step 20 will be ") and RUNS[2].id in line
    row = status_json(SWEEP, store, strict)["runs"][5]
    assert row["state"] == "cancelled" and row["error"] == line.replace(f" {SLOW.id}:", ":")
    assert launch(store, strict, False) == set(), "no follower submits it again"

    assert launch(store, strict, True) == {SLOW.id} and not cancelled(store)
    end_dominated(SWEEP, store, strict, said.append)
    assert len(said) == 1 and not cancelled(store), "a person asked for it all the same"
