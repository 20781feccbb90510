"""Checkpoints: what is damaged, diverged or half-written is never used, and never stays."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from helpers import (
    ROOT,
    curve,
    do,
    only_training,
    ranks,
    score_all,
    tiny_protocol,
    tiny_sweep,
    train_all,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.base import tensors as files
from harness.base.errors import UserError
from harness.base.files import is_whole, read_json, read_lines
from harness.base.tensors import load_tensors, save_tensors
from harness.data.digits import Digits
from harness.spec import Run, Sweep
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Evaluate
from harness.training import loop

CPU = torch.device("cpu")
LABELS = "y_embedder.embedding_table.weight"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    train_all(only_training((20, 40, 60)), store)
    return store


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Store, Run]:
    """A store with checkpoints at 20 and 40."""
    sweep, store = only_training((20, 40)), Store(tmp_path / "store")
    train_all(sweep, store)
    return store, sweep.runs[0]


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def without(path: Path) -> None:
    """As an older version wrote it, but for one tensor."""
    save_file(dict(list(load_file(path).items())[1:]), path)


def infinite(path: Path) -> None:
    tensors = load_file(path)
    tensors[f"ema.{LABELS}"][3, 3] = torch.inf
    save_file(tensors, path)


def foreign(path: Path) -> None:
    save_tensors(path, load_tensors(path), {"checkpoint": "another@40"})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (flipped, "has another SHA-256 than was written"),
        (truncated, "is damaged"),
        (without, "holds other tensors than this run's"),
        (infinite, "holds numbers that are not finite"),
        (foreign, "is of another@40, not of"),
    ],
)
def test_a_state_that_is_not_right_is_passed_over_for_the_one_before(
    spoil: object,
    reason: str,
    begun: tuple[Store, Run],
    undisturbed: Store,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, run = begun
    assert callable(spoil)
    spoil(store.state(run, 40))
    train_all(only_training((60,)), store)
    err = capsys.readouterr().err
    assert f"{run.id}: the state of step 40 is passed over, the one before is used: " in err
    assert reason in err and str(store.state(run, 40)) in err
    assert read_lines(store.logs(run)[-1])[0][0]["start"] == 20
    assert curve(store, run) == curve(undisturbed, run)
    assert store.ema(run, 60).read_bytes() == undisturbed.ema(run, 60).read_bytes()


RESUME = """
import json, sys
from pathlib import Path
from harness.base.distributed import process_group
from harness.spec import Run
from harness.study.store import Store
from harness.study.tasks import Train
from harness.training.checkpoint import resume
from harness.training.step import new_state
run = Run(**json.loads(sys.argv[1]))
with process_group("cpu") as rank:
    for mine, *others in zip(sys.argv[2:4], sys.argv[4:6]):
        state, store = new_state(run, rank.device), Store(Path([mine, *others][rank.index]))
        step, _ = resume(Train(run, (60,), 0, ""), store, state, rank)
        print(step, sum(float(p.double().sum()) for p in state.net.parameters()))
"""


@pytest.mark.slow
def test_ranks_resume_from_a_state_that_is_whole_for_all_of_them(
    begun: tuple[Store, Run], tmp_path: Path
) -> None:
    """One of them may see other bytes, such as through a cache of a network file system."""
    store, run = begun
    others = [Store(shutil.copytree(store.root, tmp_path / name)) for name in "ab"]
    truncated(others[0].state(run, 40))
    for step in (20, 40):
        truncated(others[1].state(run, step))
    words = (store.root, store.root, *(other.root for other in others))
    first, second = ranks(2, RESUME, json.dumps(asdict(run)), *words)
    assert first == second
    assert [line.split()[0] for line in first.splitlines()] == ["20", "0"]


def test_a_state_of_before_there_were_digests_is_used(
    begun: tuple[Store, Run], undisturbed: Store
) -> None:
    store, run = begun
    path = store.state(run, 40)
    save_file(load_file(path), path, {"checkpoint": f"{run.id}@40"})
    train_all(only_training((60,)), store)
    assert read_lines(store.logs(run)[-1])[0][0]["start"] == 40
    assert store.ema(run, 60).read_bytes() == undisturbed.ema(run, 60).read_bytes()


def test_a_run_begun_by_3880366_goes_on(tmp_path: Path) -> None:
    folder = shutil.copytree(ROOT / "tests/fixtures/store_3880366", tmp_path / "store")
    (path,) = (p.parents[2] for p in folder.glob("runs/*/checkpoints/*/state.safetensors"))
    store, run = Store(folder), Run(**read_json(path / "run.json"))
    train_all(Sweep(name="longer", runs=(run,), steps=(10, 12), protocols=()), store)
    assert store.run(run) == path
    assert read_lines(store.logs(run)[-1])[0][0]["start"] == 10
    assert [step for step, *_ in curve(store, run)] == list(range(1, 13))


def test_scored_weights_with_a_flipped_bit_are_refused_by_name(begun: tuple[Store, Run]) -> None:
    store, run = begun
    flipped(store.ema(run, 40))
    (task,) = (t for t in missing(tiny_sweep(steps=(40,)), store) if isinstance(t, Evaluate))
    with pytest.raises(UserError, match=r"ema\.safetensors is damaged .* move it away and run"):
        do(task, store)


def test_two_trainings_write_the_same_files(begun: tuple[Store, Run], undisturbed: Store) -> None:
    store, run = begun
    for path in (store.ema(run, 20), store.ema(run, 40), store.state(run, 40)):
        assert path.read_bytes() == (undisturbed.root / path.relative_to(store.root)).read_bytes()


def unseen(run: Run, step: int) -> int:
    """A class that is not in the batch of that step."""
    labels = loop.make_batch(run, Digits(), CPU, step, 0, run.batch_size)[2].tolist()
    return next(label for label in range(10) if label not in labels)


def test_weights_that_are_not_finite_are_never_saved(begun: tuple[Store, Run]) -> None:
    """The update of step 41 overflows a weight that no sample of it uses: the loss is finite."""
    store, run = begun
    tensors: dict[str, Tensor] = load_tensors(store.state(run, 40))
    row = unseen(run, 41)
    tensors[f"net.{LABELS}"][row] = 3e38
    tensors[f"exp_avg.{LABELS}"][row] = -1e37
    tensors[f"exp_avg_sq.{LABELS}"][row] = 0.0
    save_tensors(store.state(run, 40), tensors)
    said = rf"{run.id}: a weight is not finite between steps 41 and 41; .* that of step 40: try a"
    with pytest.raises(UserError, match=said):
        train_all(only_training((41,)), store)
    assert store.steps(run) == [20, 40] and len(curve(store, run)) == 41


def test_the_state_is_written_before_the_weights_that_are_scored(
    begun: tuple[Store, Run], undisturbed: Store
) -> None:
    store, run = begun
    blocked = store.ema(run, 60) / "a folder in the place of the file"
    blocked.mkdir(parents=True)
    with pytest.raises(OSError, match=r"ema\.safetensors"):
        train_all(only_training((60,)), store)
    assert is_whole(store.state(run, 60))
    blocked.rmdir()
    blocked.parent.rmdir()
    train_all(only_training((60,)), store)
    assert read_lines(store.logs(run)[-1])[0][0]["start"] == 60, "no step is done twice"
    assert store.ema(run, 60).read_bytes() == undisturbed.ema(run, 60).read_bytes()


def test_steps_go_on_while_a_checkpoint_of_its_own_step_is_written(
    tmp_path: Path, undisturbed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes no byte of step 20 before step 40 is logged."""
    sweep, store = only_training((20, 40)), Store(tmp_path)
    (run,) = sweep.runs

    def slow(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        for _ in range(6000):
            if len(curve(store, run)) >= 40:
                return save_file(tensors, path, metadata)
            time.sleep(0.01)
        raise AssertionError("the steps wait for the disk")

    monkeypatch.setattr(files, "save_file", slow)
    train_all(sweep, store)
    for path in (store.ema(run, 20), store.ema(run, 40), store.state(run, 40)):
        assert path.read_bytes() == (undisturbed.root / path.relative_to(store.root)).read_bytes()


def test_a_checkpoint_that_cannot_be_written_ends_the_run_at_the_next_step(tmp_path: Path) -> None:
    sweep, store = only_training((20, 5000)), Store(tmp_path)
    (run,) = sweep.runs
    (store.ema(run, 20) / "a folder in the place of the file").mkdir(parents=True)
    with pytest.raises(OSError, match=r"ema\.safetensors"):
        train_all(sweep, store)
    assert len(curve(store, run)) < 5000, "it ends long before"


def test_what_a_killed_writer_left_goes_when_training_goes_on(begun: tuple[Store, Run]) -> None:
    store, run = begun
    left = [
        store.run(run) / ".model.json.77",
        store.checkpoint(run, 40) / ".state.safetensors.77",
        store.checkpoint(run, 40) / ".tmpa1B2c3",
        store.checkpoint(run, 50) / ".tmpd4E5f6",
    ]
    evaluation = store.run(run) / "evals" / ".0000040.json.78"  # of another process, at work
    for path in (*left, evaluation):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    train_all(only_training((60,)), store)
    assert not any(path.exists() for path in left) and evaluation.exists()
    assert sorted(os.listdir(store.run(run) / "checkpoints")) == ["0000020", "0000040", "0000060"]


def test_a_protocol_of_raw_weights_is_finished(tmp_path: Path) -> None:
    """More steps than states are kept; what is scored is what was trained, not its average."""
    protocols = (tiny_protocol(), tiny_protocol(name="raw", weights="raw"))
    sweep, store = tiny_sweep(steps=(1, 2, 3, 4), protocols=protocols), Store(tmp_path)
    (run,) = sweep.runs
    train_all(sweep, store)
    assert not store.state(run, 1).exists()
    raw, state = load_tensors(store.raw(run, 4)), load_tensors(store.state(run, 4), prefix="net.")
    assert all(torch.equal(x, state[f"net.{name}"]) for name, x in raw.items())
    score_all(sweep, store)
    assert missing(sweep, store) == []
    ema, other = (read_json(store.record(run, 4, p)) for p in protocols)
    assert ema["checkpoint"] != other["checkpoint"] and ema["values"] != other["values"]
