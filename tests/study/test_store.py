"""Files: whole or not at all, one writer, and nothing torn is trusted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT, environment, tiny_protocol, tiny_run, tree
from safetensors.torch import save_file

from harness.base.files import (
    append_lines,
    atomic_write,
    claim,
    is_claimed,
    is_whole,
    read_json,
    read_lines,
    write_json,
)
from harness.study import store as files
from harness.study.store import Store

HOSTILE = "a folder, with ' \" $HOME ünï and\ttab"


@pytest.fixture(params=["plain", HOSTILE])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    return Store(tmp_path / request.param)


def test_a_file_appears_whole_or_not_at_all(store: Store) -> None:
    path = store.root / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_write(path) as beside:
        print(beside.write_text("half") / 0)
    assert read_json(path) == {"a": 1} and os.listdir(store.root) == ["value.json"]


def test_a_value_json_cannot_hold_leaves_the_old_file(store: Store) -> None:
    write_json(store.root / "value.json", {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(store.root / "value.json", {"a": float("nan")})
    assert read_json(store.root / "value.json") == {"a": 1}


@pytest.mark.parametrize("text", ["", '{"a": ', "[1]", "\xff"])
def test_what_is_no_json_object_is_refused_by_name(store: Store, text: str) -> None:
    store.root.mkdir()
    (store.root / "x.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"x\.json .*: move it away") as error:
        read_json(store.root / "x.json")
    assert "\n" not in str(error.value)


def test_a_torn_line_is_skipped_and_said(store: Store) -> None:
    run = tiny_run()
    first, second = store.run(run) / "log.000.jsonl", store.run(run) / "log.001.jsonl"
    append_lines(first, [{"start": 0}, {"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}])
    with first.open("a") as file:
        file.write('{"step": 3, "lo')
    append_lines(second, [{"start": 1}, {"step": 2, "loss": 2.5}])
    assert store.next_log(run).name == "log.002.jsonl"
    lines, said = store.read_log(run)
    assert [(line["step"], line["loss"]) for line in lines] == [
        (1, 3.0),
        (2, 2.5),
    ]  # the latest attempt's
    assert said == [f"{first}:4: torn line skipped"]
    assert read_lines(second)[1] == []


def test_a_safetensors_file_is_whole_or_seen_to_be_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(10.0), "b": torch.ones(2, 3)}, path, {"step": "1"})
    data = path.read_bytes()
    assert is_whole(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert not is_whole(path), length
    path.write_bytes(data + b"x")
    assert not is_whole(path) and not is_whole(tmp_path / "absent")


def test_a_claim_is_one_process_and_ends_with_it(store: Store) -> None:
    path = store.train_claim(tiny_run())
    assert not is_claimed(path)
    with claim(path) as mine:
        assert mine and is_claimed(path)
        with claim(path) as second, claim(path, wanted=False) as other_rank:
            assert not second and other_rank
    assert not is_claimed(path)
    code = (
        "import sys; from harness.base.files import *\n"
        "with claim(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment(), cwd=ROOT, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n" and is_claimed(path)
        holder.kill()
        holder.wait()
        assert not is_claimed(path)


def test_a_run_is_registered_once_and_another_under_its_id_is_refused(store: Store) -> None:
    run = tiny_run()
    store.register(run)
    before = (store.run(run) / "run.json").stat().st_mtime_ns
    store.register(run)
    assert (store.run(run) / "run.json").stat().st_mtime_ns == before and store.run_ids() == {
        run.id
    }
    write_json(store.run(run) / "run.json", read_json(store.run(run) / "run.json") | {"lr": 0.5})
    with pytest.raises(
        ValueError, match=r"run\.json is another run than .*differ in lr.*move that folder away"
    ):
        store.register(run)


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
    named = {
        store.model(run): f"{here}/model.json",
        store.ema(run, 50_000): f"{here}/checkpoints/0050000/ema.safetensors",
        store.state(run, 50_000): f"{here}/checkpoints/0050000/state.safetensors",
        store.record(run, 50_000, protocol): f"{evals}/0050000.json",
        store.preview(run, 50_000, protocol): f"{evals}/0050000.npz",
        store.shards(run, 50_000, protocol): f"{evals}/0050000",
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
