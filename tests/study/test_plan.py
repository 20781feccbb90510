"""missing(sweep, store): what the sweep asks for less the files, with reasons."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import ROOT, tiny_protocol, tiny_run, tiny_sweep, tree
from safetensors.torch import save_file

from harness.base.errors import UserError
from harness.base.files import append_lines, write_json
from harness.cli.plan import plan_json, plan_text
from harness.cli.status import status_json
from harness.cli.status_text import status_text
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.plan import missing, newest, orphans, survey
from harness.study.registry import register
from harness.study.store import Store
from harness.study.sweep_file import load_sweep
from harness.study.tasks import Encode, Evaluate, Task, Train, from_json, to_json

SWEEP = tiny_sweep(steps=(10, 20, 30))
(RUN,), (PROTOCOL,) = SWEEP.runs, SWEEP.protocols


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def weights(path: Path, cut: int = 0) -> None:
    """A safetensors file, `cut` bytes of it missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"x": torch.zeros(8)}, path)
    path.write_bytes(path.read_bytes()[: -cut or None])


def checkpoint(store: Store, step: int, run: Run = RUN) -> None:
    weights(store.ema(run, step))
    weights(store.state(run, step))


def as_lines(tasks: list[Task]) -> list[str]:
    """A task as a line."""
    return [
        f"train {t.steps} from {t.start}: {t.reason}"
        if isinstance(t, Train)
        else f"score {t.step} {t.ready}: {t.reason}"
        for t in tasks
        if not isinstance(t, Encode)
    ]


def test_of_an_empty_store_everything_is_missing(store: Store) -> None:
    waiting = [f"score {step} False: no checkpoint yet" for step in SWEEP.steps]
    assert as_lines(missing(SWEEP, store)) == ["train (10, 20, 30) from 0: never trained", *waiting]
    assert tree(store.root) == set(), "planning writes nothing"


def test_a_checkpoint_makes_its_score_ready_and_training_goes_on(store: Store) -> None:
    checkpoint(store, 10)
    assert as_lines(missing(SWEEP, store)) == [
        "train (20, 30) from 10: no checkpoint at 20, 30; continues from 10",
        "score 10 True: not scored",
        "score 20 False: no checkpoint yet",
        "score 30 False: no checkpoint yet",
    ]


def test_training_goes_on_from_a_state_between_the_steps(store: Store) -> None:
    checkpoint(store, 10)
    weights(store.state(RUN, 17))
    assert (
        as_lines(missing(SWEEP, store))[0]
        == "train (20, 30) from 17: no checkpoint at 20, 30; continues from 17"
    )


def test_of_a_damaged_state_the_one_before_is_taken(store: Store) -> None:
    checkpoint(store, 10)
    weights(store.state(RUN, 17), cut=3)
    assert newest(RUN, store) == 10 and as_lines(missing(SWEEP, store))[0].endswith(
        "continues from 10"
    )


def test_a_lost_state_starts_over_and_says_so(store: Store) -> None:
    weights(store.ema(RUN, 10))
    assert (
        as_lines(missing(SWEEP, store))[0]
        == "train (20, 30) from 0: no checkpoint at 20, 30; starts over"
    )


def test_truncated_weights_are_reported_and_made_again_scored_or_not(store: Store) -> None:
    for step in SWEEP.steps:
        checkpoint(store, step)
        write_json(store.record(RUN, step, PROTOCOL), {})
    assert missing(SWEEP, store) == []
    weights(store.ema(RUN, 20), cut=5)
    assert as_lines(missing(SWEEP, store)) == [
        "train (20,) from 20: checkpoint 20 is truncated; continues from 20"
    ]


def test_weights_deleted_after_every_score_are_not_missed(store: Store) -> None:
    checkpoint(store, 30)
    for step in SWEEP.steps:
        write_json(store.record(RUN, step, PROTOCOL), {})
    assert missing(SWEEP, store) == []
    more = tiny_sweep(steps=SWEEP.steps, protocols=(PROTOCOL, tiny_protocol(guidance=2.0)))
    assert as_lines(missing(more, store))[0].startswith("train (10, 20) from 0"), (
        "a new protocol asks for them again"
    )


RAW = tiny_protocol(name="raw", weights="raw")


def test_raw_weights_are_kept_where_a_protocol_scores_them(store: Store) -> None:
    sweep = tiny_sweep(steps=SWEEP.steps, protocols=(PROTOCOL, RAW))
    train, *_ = missing(sweep, store)
    assert isinstance(train, Train) and train.weights == ("ema", "raw")
    assert from_json(to_json(train)) == train
    for step in SWEEP.steps:
        weights(store.ema(RUN, step))
        weights(store.raw(RUN, step))
    assert all(isinstance(task, Evaluate) and task.ready for task in missing(sweep, store))
    weights(store.raw(RUN, 20), cut=3)
    lines = as_lines(missing(sweep, store))
    assert lines[0] == "train (20,) from 0: no raw weights at 20; starts over"
    assert lines[3:5] == ["score 20 True: not scored", "score 20 False: no checkpoint yet"]


def test_without_a_file_of_raw_weights_the_state_is_scored_while_it_is_there(store: Store) -> None:
    sweep = tiny_sweep(steps=SWEEP.steps, protocols=(RAW,))
    for step in SWEEP.steps:
        checkpoint(store, step)
    assert all(isinstance(task, Evaluate) and task.ready for task in missing(sweep, store))
    store.state(RUN, 10).unlink()
    assert as_lines(missing(sweep, store))[:2] == [
        "train (10,) from 0: no raw weights at 10; starts over",
        "score 10 False: no checkpoint yet",
    ]
    write_json(store.record(RUN, 10, RAW), {})
    assert all(isinstance(task, Evaluate) and task.ready for task in missing(sweep, store))


def test_a_deleted_record_is_the_only_thing_redone(store: Store) -> None:
    for step in SWEEP.steps:
        checkpoint(store, step)
        write_json(store.record(RUN, step, PROTOCOL), {})
    store.record(RUN, 20, PROTOCOL).unlink()
    assert as_lines(missing(SWEEP, store)) == ["score 20 True: not scored"]


def test_a_longer_sweep_goes_on_and_a_protocol_added_later_retrains_nothing(store: Store) -> None:
    for step in SWEEP.steps:
        checkpoint(store, step)
        write_json(store.record(RUN, step, PROTOCOL), {})
    longer = tiny_sweep(steps=(10, 20, 30, 40))
    assert (
        as_lines(missing(longer, store))[0]
        == "train (40,) from 30: no checkpoint at 40; continues from 30"
    )
    wider = tiny_sweep(steps=SWEEP.steps, protocols=(PROTOCOL, tiny_protocol(labels="balanced")))
    assert all(isinstance(task, Evaluate) and task.ready for task in missing(wider, store))


def test_planning_writes_nothing(store: Store) -> None:
    checkpoint(store, 10)
    before = tree(store.root)
    missing(SWEEP, store)
    assert tree(store.root) == before


@pytest.mark.parametrize("damage", [b"", b"{", b'{"n": 64, "values": {"fid": 1'])
def test_a_damaged_record_is_made_again(damage: bytes, store: Store) -> None:
    for step in SWEEP.steps:
        checkpoint(store, step)
        write_json(store.record(RUN, step, PROTOCOL), {"n": 64}, checksum=True)
    (task,) = missing(tiny_sweep(steps=(40,)), store)[1:]
    assert not task.is_done(store)
    path = store.record(RUN, 20, PROTOCOL)
    for data in (damage, path.read_bytes().replace(b"64", b"65")):
        path.write_bytes(data)
        (task,) = missing(SWEEP, store)
        assert as_lines([task]) == ["score 20 True: its record is damaged"]
        assert not task.is_done(store)


def test_the_plan_is_a_diff(store: Store) -> None:
    new, going, done, orphan = (tiny_run(seed=seed) for seed in range(4))
    for run, steps in ((going, (10,)), (done, SWEEP.steps), (orphan, (10,))):
        for step in steps:
            checkpoint(store, step, run)
    for step in SWEEP.steps:
        write_json(store.record(done, step, PROTOCOL), {})
    sweep = tiny_sweep(steps=SWEEP.steps, runs=(new, going, done))
    assert [cell.state for cell in survey(sweep, store)] == ["new", "going on", "done"]
    assert orphans(sweep, store) == [orphan.id]
    plan = plan_json(sweep, store, Cluster())
    text = plan_text(plan)
    assert orphan.id not in text and "1 run of other sweeps in the store: --others" in text
    text = plan_text(plan, others=True)
    assert "+ new, ~ started, = done, - of no run of this sweep" in text
    for mark, run in zip("+~=-", (new, going, done, orphan), strict=True):
        (line,) = [line for line in text.splitlines() if run.id in line]
        assert line.startswith(mark)
    assert "multiply-adds" in text and "params" in text and "continues from 10" in text


def test_plan_json_adds_up(store: Store) -> None:
    plan = plan_json(SWEEP, store, Cluster())
    assert len(plan["tasks"]) == 4 and plan["orphaned"] == []
    assert plan["totals"]["train_hours"] == plan["runs"][0]["train_hours"] > 0
    assert plan["runs"][0]["params"] > 0 and plan["speed"]["source"]


def test_status_compares_what_was_used_with_what_was_planned(store: Store) -> None:
    first = {
        "loss": 1.0,
        "mse": 1.0,
        "vb": 0.0,
        "grad_norm": 1.0,
        "images_per_second": 9.0,
        "mfu": None,
    }
    register(RUN, store)
    append_lines(
        store.next_log(RUN), [{"start": 0, "world": 2}, {"step": 10, **first, "seconds": 1800.0}]
    )
    append_lines(
        store.next_log(RUN), [{"start": 10, "world": 1}, {"step": 20, **first, "seconds": 1800.0}]
    )
    with store.logs(RUN)[1].open("a") as log:
        log.write('7\n{"step": 30, "lo')
    write_json(store.record(RUN, 10, PROTOCOL), {"seconds": 900.0, "world": 2})
    store.record(RUN, 20, PROTOCOL).write_text("{")  # for collect to name
    status = status_json(SWEEP, store, Cluster())
    (row,), whole = (
        status["runs"],
        plan_json(SWEEP, Store(store.root / "none"), Cluster())["totals"],
    )
    assert (
        row["used_hours"] == status["totals"]["used_hours"] == pytest.approx(2.0)
        and row["step"] == 20
    )
    assert row["planned_hours"] == pytest.approx(whole["train_hours"] + whole["evaluate_hours"])
    text = status_text(status | {"estimates": True})
    assert (
        "2.0 h/" in text
        and "2.0 h of device time used" in text
        and "planned for all on one A100, published" in text
    )
    assert "A100" not in status_text(status), "nor does a plan count small networks in its seconds"
    assert "A100" not in plan_text(plan_json(SWEEP, store, Cluster()))


def test_a_task_is_read_back_from_its_json(store: Store) -> None:
    checkpoint(store, 10)
    for task in missing(SWEEP, store):
        assert from_json(json.loads(json.dumps(to_json(task)))) == task


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Dream"},
        {"kind": 7},
        {"steps": "10"},
        {"steps": [10.0]},
        {"start": None},
        {"run": {"model": "DiT-S/2", "note": "hello"}},
        {"run": 3},
        {"note": "hello"},
    ],
)
def test_json_of_no_task_is_refused_in_a_line(change: dict[str, object], store: Store) -> None:
    fields = to_json(missing(SWEEP, store)[0])
    with pytest.raises(UserError) as refused:
        from_json(fields | change)
    assert "\n" not in str(refused.value)


def test_sweeps_import_the_spec_and_each_other_alone() -> None:
    allowed = ("from harness.spec import", "from sweeps.", "from dataclasses import")
    for path in (ROOT / "sweeps").glob("*.py"):
        lines = [
            line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))
        ]
        assert all(line.startswith(allowed) or "__future__" in line for line in lines), path


def test_the_first_seed_of_digits_seeds_is_the_digits_study() -> None:
    one, three = load_sweep("digits"), load_sweep("digits_seeds")
    assert [run for run in three.runs if run.seed == 0] == list(one.runs)
    assert (three.steps, three.protocols) == (one.steps, one.protocols)


def test_a_cheap_protocol_at_every_checkpoint_and_a_dear_one_at_the_last(store: Store) -> None:
    dear = tiny_protocol(name="dear", images=128)
    sweep = tiny_sweep(steps=(), protocols={PROTOCOL: (10, 20, 30), dear: (30,)})
    waiting = [f"{RUN.id}@{step}:{p.id}" for step, p in sweep.scores]
    assert [task.id for task in missing(sweep, store)] == [RUN.id, *waiting] and len(waiting) == 4
    (row,) = plan_json(sweep, store, Cluster())["runs"]
    assert (row["checkpoints_wanted"], row["scores_wanted"]) == (3, 4)
    for step in sweep.steps:
        checkpoint(store, step)
        write_json(store.record(RUN, step, PROTOCOL), {})
    assert [task.id for task in missing(sweep, store)] == waiting[-1:]
    write_json(store.record(RUN, 30, dear), {})
    assert missing(sweep, store) == [] and survey(sweep, store)[0].scores == 4
    assert status_json(sweep, store, Cluster())["runs"][0]["scores_wanted"] == 4


def test_a_run_is_trained_and_scored_at_its_own_steps_alone(store: Store) -> None:
    long = tiny_run(seed=1)
    sweep = tiny_sweep(runs=(), steps=(), trained={RUN: 10, long: (20, 30)})
    train, *scores = missing(sweep, store)[:2]
    assert isinstance(train, Train) and train.steps == (10,)
    assert [task.id for task in scores] == [f"{RUN.id}@10:{PROTOCOL.id}"]
    for step in (10, 20, 30):  # as another sweep in this store trained it
        checkpoint(store, step)
        write_json(store.record(RUN, step, PROTOCOL), {})
    assert {task.id.partition("@")[0] for task in missing(sweep, store)} == {long.id}
    short, other = plan_json(sweep, store, Cluster())["runs"]
    assert (short["checkpoints"], short["scores"], short["scores_wanted"]) == (1, 1, 1)
    assert (other["checkpoints_wanted"], other["scores_wanted"]) == (2, 2)
    assert [row["last_step"] for row in status_json(sweep, store, Cluster())["runs"]] == [10, 30]
