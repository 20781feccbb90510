"""Files: whole or not at all, one writer, and nothing torn is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import tiny_protocol, tiny_run, tree

from harness.base.files import append_lines, read_json, write_json
from harness.study import store as files
from harness.study.registry import register
from harness.study.store import Store

HOSTILE = "a folder, with ' \" $HOME ünï and\ttab"


@pytest.fixture(params=["plain", HOSTILE])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    return Store(tmp_path / request.param)


def test_a_torn_line_is_skipped_and_reported(store: Store) -> None:
    run = tiny_run()
    first, second = store.run(run) / "log.000.jsonl", store.run(run) / "log.001.jsonl"
    append_lines(first, [{"start": 0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}])
    with first.open("a") as file:
        file.write('{"step": 3, "lo')
    append_lines(second, [{"start": 1}, {"step": 2, "loss": 2.5}])
    lines, warnings = store.read_log(run)
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 3.0), (2, 2.5)]
    assert warnings == [f"{first}:5: damaged line skipped"]


def test_lines_that_are_no_log_are_skipped_and_reported(store: Store) -> None:
    path = store.next_log(tiny_run())
    foreign: list[dict[str, object]] = [
        {"note": "hello"},
        {"start": "0"},
        {"loss": 1.0},
        {"step": "1", "loss": 1.0},
        {"step": 1, "loss": [1.0]},
        {"step": 1, "loss": None},
        {"step": 1, "loss": 1.0, "1oss": 2.0},
    ]
    append_lines(path, [*foreign, {"step": 2, "loss": 1}, {"step": 3, "loss": 1.0, "mfu": None}])
    lines, warnings = store.read_log(tiny_run())
    assert [line["step"] for line in lines] == [2, 3]
    assert warnings == [f"{path}: 7 lines that are no log of a training skipped"]


def test_the_latest_attempt_counts_and_a_new_one_has_a_file_of_its_own(store: Store) -> None:
    run = tiny_run()
    for number in (998, 999, 1000):
        append_lines(store.run(run) / f"log.{number}.jsonl", [{"step": 1, "loss": float(number)}])
    (store.run(run) / "log.1.old.jsonl").touch()
    assert store.read_log(run)[0] == [{"step": 1, "loss": 1000.0}]
    store.logs(run)[0].unlink()
    assert store.next_log(run).name == "log.1001.jsonl"


def test_a_run_is_registered_once_and_another_under_its_id_is_refused(store: Store) -> None:
    run = tiny_run()
    register(run, store)
    before = (store.run(run) / "run.json").stat().st_mtime_ns
    register(run, store)
    assert (store.run(run) / "run.json").stat().st_mtime_ns == before and store.run_ids() == {
        run.id
    }
    write_json(store.run(run) / "run.json", read_json(store.run(run) / "run.json") | {"lr": 0.5})
    with pytest.raises(
        ValueError, match=r"run\.json is another run than .*differ in lr.*move that folder away"
    ):
        register(run, store)


def test_only_the_newest_two_states_are_kept_and_later_ones_push_none_out(store: Store) -> None:
    run = tiny_run()
    for step in (10, 20, 30, 40, 50):
        store.state(run, step).parent.mkdir(parents=True)
        store.state(run, step).touch()
    assert store.stale_states(run, 50) == [store.state(run, step) for step in (10, 20, 30)]
    assert store.stale_states(run, 30) == [store.state(run, 10)]


def test_the_tree_is_the_one_the_design_names(tmp_path: Path) -> None:
    run, protocol, store = tiny_run(), tiny_protocol(), Store(tmp_path)
    here, evals = f"runs/{run.id}", f"runs/{run.id}/evals/{protocol.id}"
    kept = f"{here}/samples/{protocol.sampled}"
    named = {
        store.model(run): f"{here}/model.json",
        store.ema(run, 50_000): f"{here}/checkpoints/0050000/ema.safetensors",
        store.state(run, 50_000): f"{here}/checkpoints/0050000/state.safetensors",
        store.record(run, 50_000, protocol): f"{evals}/0050000.json",
        store.preview(run, 50_000, protocol): f"{evals}/0050000.npz",
        store.shards(run, 50_000, protocol): f"{kept}/0050000/identity.digits-cnn-1",
        store.latents(run, 50_000, protocol): f"{kept}/0050000/latents",
        store.evaluate_claim(run, 50_000, protocol): f"{kept}/0050000.lock",
        store.next_log(run): f"{here}/log.000.jsonl",
        store.ledger(): "jobs.jsonl",
        store.references(): "references",
    }
    assert {str(path.relative_to(tmp_path)) for path in named} == set(named.values())
    assert tree(tmp_path) == set(), "asking for a path makes none"


def test_steps_are_read_from_names_and_strangers_passed_over(tmp_path: Path) -> None:
    for name in ("0000020", "0000010", ".0000030.77", "notes", "0000040.json"):
        (tmp_path / name).mkdir()
    assert files.steps_in(tmp_path) == [10, 20] and files.steps_in(tmp_path, ".json") == [40]
    assert files.steps_in(tmp_path / "absent") == []
