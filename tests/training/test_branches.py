"""Branches: one run's constant part gives several horizons, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import curve, do, only_training, tiny_run, tiny_sweep, train_all

from harness.base.errors import UserError
from harness.base.files import read_json, read_lines, sha256, write_json
from harness.spec import Run, Sweep
from harness.study.branches import fork, is_trunk
from harness.study.cost import used_hours
from harness.study.plan import missing, survey
from harness.study.store import Store
from harness.study.tasks import Train, from_json, to_json

SHORT, LONG, LONGER = "wsd-3-8-12", "wsd-3-16-20", "wsd-3-24-30"
ENDS = {SHORT: 12, LONG: 20, LONGER: 30}


def horizons(*schedules: str) -> Sweep:
    runs = {tiny_run(schedule=schedule): (ENDS[schedule],) for schedule in schedules}
    return tiny_sweep(runs=(), trained=runs, steps=(), protocols=())


def trainings(sweep: Sweep, store: Store) -> list[Train]:
    return [task for task in missing(sweep, store) if isinstance(task, Train)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Each horizon trained from its first step, in a store of its own run."""
    store = Store(tmp_path_factory.mktemp("alone"))
    for schedule in (LONGER, LONG, SHORT):  # the longer first: nothing is there to continue from
        train_all(horizons(schedule), store)
    return store


def test_horizons_of_one_trunk_are_those_trained_alone_to_the_bit(
    alone: Store, tmp_path: Path
) -> None:
    store, sweep = Store(tmp_path), horizons(LONGER, SHORT, LONG)
    order = []
    while ready := [task for task in trainings(sweep, store) if task.ready]:
        order.append((ready[0].run.schedule, ready[0].start))
        do(ready[0], store)
    assert order == [(SHORT, 0), (LONG, 8), (LONGER, 16)]
    for run in sweep.runs:
        end = ENDS[str(run.schedule)]
        assert store.ema(run, end).read_bytes() == alone.ema(run, end).read_bytes()
        assert curve(store, run) == curve(alone, run)
    assert missing(sweep, store) == []


def test_a_plan_waits_for_the_trunk_and_counts_the_steps_it_saves(tmp_path: Path) -> None:
    store, sweep = Store(tmp_path), horizons(LONGER, SHORT, LONG)
    longer, short, long = trainings(sweep, store)
    assert (longer.ready, short.ready, long.ready) == (False, True, False)
    assert (longer.start, short.start, long.start) == (16, 0, 8)
    assert long.reason == f"waits for step 8 of {short.run.id}: both are the same until there"
    assert longer.size == pytest.approx(long.size * 14 / 12)
    assert from_json(to_json(long)) == long
    do(short, store)
    longer, long = trainings(sweep, store)
    assert long.ready and long.reason.endswith(f"branches off {short.run.id} at 8")
    assert [cell.state for cell in survey(sweep, store)] == ["new", "done", "new"]


def test_the_log_says_whose_steps_it_goes_on_from_and_counts_no_time_for_them(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path)
    for schedule in (SHORT, LONG):
        train_all(horizons(schedule), store)
    trunk, run = (tiny_run(schedule=schedule) for schedule in (SHORT, LONG))
    first, second = store.logs(run)
    head = read_lines(first)[0][0]
    state = store.state(trunk, 8)
    assert head["branched_from"] == {"run": trunk.id, "step": 8, "sha256": sha256(state)}
    assert [line["step"] for line in read_lines(first)[0][1:]] == list(range(1, 9))
    assert read_lines(second)[0][0]["start"] == 8
    attempts = store.read_attempts(run)[0]
    assert used_hours(attempts, []) == used_hours(attempts[1:], [])


def test_a_branch_that_is_killed_goes_on_from_its_own_state(alone: Store, tmp_path: Path) -> None:
    store = Store(tmp_path)
    train_all(horizons(SHORT), store)
    run = tiny_run(schedule=LONG)
    for steps in ((10,), (20,)):
        train_all(only_training(steps, schedule=LONG), store)
    assert store.ema(run, 20).read_bytes() == alone.ema(run, 20).read_bytes()
    assert len(store.logs(run)) == 3


def test_the_state_before_a_decay_outlives_later_ones(alone: Store) -> None:
    for schedule in ENDS:
        run = tiny_run(schedule=schedule)
        kept = [step for step in alone.steps(run) if alone.state(run, step).exists()]
        assert fork(run) in kept


def test_a_damaged_or_foreign_trunk_is_left_alone(alone: Store, tmp_path: Path) -> None:
    store, sweep = Store(tmp_path), horizons(LONG)
    train_all(horizons(SHORT), store)
    trunk, run = (tiny_run(schedule=schedule) for schedule in (SHORT, LONG))
    path = store.state(trunk, 8)
    origin = read_json(store.data(trunk))
    write_json(store.data(trunk), {**origin, "digest": "other"})
    with pytest.raises(UserError, match=rf"would continue from {trunk.id} at step 8"):
        train_all(sweep, store)
    write_json(store.data(trunk), origin)
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    train_all(sweep, store)
    assert store.ema(run, 20).read_bytes() == alone.ema(run, 20).read_bytes()


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "wsd-2-8-12"},
        {"lr": 2e-3},
        {"seed": 1},
        {"schedule": None},
        {"ema": "power-0.1"},
    ],
)
def test_a_run_that_differs_before_its_decay_is_no_trunk(fields: dict[str, object]) -> None:
    run = tiny_run(schedule=LONG, ema_decay=0.9999)
    given: dict[str, object] = {"schedule": SHORT, "ema_decay": 0.9999}
    assert is_trunk(tiny_run(**given), run) and not is_trunk(run, tiny_run(**given))
    assert not is_trunk(Run(**{**tiny_run(**given).canonical(), **fields}), run)
