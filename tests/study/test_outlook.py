"""Running curves in status: what an unfinished run will score, and who is ahead of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import scored, tiny_protocol, tiny_run, tiny_sweep

from harness.base.files import write_json
from harness.cli.status import status_json
from harness.cli.status_text import status_text
from harness.spec import Sweep
from harness.study.cluster import Cluster
from harness.study.outlook import Outlook, outlook
from harness.study.plan import survey
from harness.study.store import Store

RUNS = (*(tiny_run(seed=seed) for seed in range(5)), tiny_run(model="mini-DiT-S/4"))
SWEEP = tiny_sweep(runs=RUNS)
FIRST = {10: (400, 420, 380, 410, 390), 20: (200, 215, 188, 206, 193)}  # five finished runs


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    for step, scores in FIRST.items():
        for run, fid in zip(RUNS, scores, strict=False):
            scored(made, run, step, fid)
    return made


def seen(store: Store, sweep: Sweep = SWEEP) -> dict[str, Outlook]:
    return outlook(sweep, survey(sweep, store), store)


def test_an_unfinished_run_will_gain_what_the_finished_ones_did(store: Store) -> None:
    assert seen(store) == {}, "it has no score yet"
    scored(store, RUNS[5], 10, 300)
    found = seen(store)
    assert list(found) == [RUNS[5].id]
    last = found[RUNS[5].id]
    assert (last.metric, last.step, last.last, last.dominated_by) == ("fid", 10, 20, "")
    assert last.low < last.prediction < last.high
    assert last.prediction == pytest.approx(300 * 0.5, rel=0.02)


def test_a_run_far_behind_is_dominated_by_the_best_finished_one(store: Store) -> None:
    scored(store, RUNS[5], 10, 900)
    assert seen(store)[RUNS[5].id].dominated_by == RUNS[2].id
    seed = tiny_run(seed=7)
    scored(store, seed, 10, 900)
    found = seen(store, tiny_sweep(runs=(*RUNS[:5], seed)))
    assert found[seed.id].dominated_by == "", "another seed of the same model is noise"


def test_status_shows_it_for_people_and_for_scripts(store: Store) -> None:
    assert "at its end" not in status_text(status_json(SWEEP, store, Cluster()))
    scored(store, RUNS[5], 10, 900)
    found = status_json(SWEEP, store, Cluster())
    *finished, row = found["runs"]
    assert [other["outlook"] for other in finished] == [None] * 5
    assert row["outlook"]["dominated_by"] == RUNS[2].id
    text = status_text(found)
    assert "at its end" in text and ", dominated" in text and "95 % interval" in text


def test_without_four_finished_runs_or_another_step_there_is_none(store: Store) -> None:
    scored(store, RUNS[5], 10, 300)
    assert seen(store, tiny_sweep(runs=RUNS[2:])) == {}
    assert seen(store, tiny_sweep(runs=RUNS, steps=(20,))) == {}


def test_a_record_that_collect_would_refuse_does_not_stop_status(store: Store) -> None:
    scored(store, RUNS[5], 10, 300)
    write_json(store.record(RUNS[0], 10, SWEEP.sampling[0]), {"schema": 99, "values": {}})
    assert seen(store) == {} and status_json(SWEEP, store, Cluster())["runs"]


def test_a_cheap_protocol_tells_where_the_main_one_is_of_one_step(store: Store) -> None:
    dear = tiny_protocol(name="dear", images=128)
    both = tiny_sweep(runs=RUNS, steps=(), protocols={SWEEP.sampling[0]: (10, 20), dear: (20,)})
    scored(store, RUNS[5], 10, 300)
    assert seen(store, both) == {}, "no run is finished without its dear score"
    for run in RUNS[:5]:
        scored(store, run, 20, 150, dear)
    assert seen(store, both)[RUNS[5].id].prediction == pytest.approx(150, rel=0.02)
