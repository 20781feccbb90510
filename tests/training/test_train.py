"""Training: interrupted and run again, it ends bit for bit where an undisturbed run ends."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from helpers import (
    apart,
    cluster_file,
    curve,
    do,
    finished,
    only_training,
    ranks,
    run_verb,
    started,
    tiny_run,
    train_all,
    tree,
    written,
)
from safetensors.torch import load_file

from harness.base.distributed import Rank, Stop
from harness.base.errors import Locked, UserError
from harness.base.files import is_whole, read_json, read_lines
from harness.base.locks import is_claimed
from harness.base.tensors import load_tensors, save_tensors
from harness.cli import main as cli
from harness.data.digits import Digits
from harness.launch.perform import perform
from harness.models import MODELS
from harness.spec import Run, Sweep
from harness.study.cluster import Cluster
from harness.study.plan import missing, newest
from harness.study.store import Store
from harness.study.tasks import Train
from harness.training import loop
from harness.training.step import new_network

OFTEN = 1e-9  # minutes between checkpoints: at every look


def same(store: Store, other: Store, run: Run, *steps: int) -> None:
    """Log and EMA weights are those of the other store, to the bit."""
    assert curve(store, run) == curve(other, run)
    for step in steps:
        assert store.ema(run, step).read_bytes() == other.ema(run, step).read_bytes()


@pytest.fixture(scope="module")
def long() -> Sweep:
    return only_training((60, 160))


@pytest.fixture(scope="module")
def undisturbed(long: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The oracle."""
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    train_all(long, store)
    return store


def trains(store: Store, run: Run, attempt: int) -> bool:
    """Whether that attempt has logged its first steps."""
    log = store.run(run) / f"log.{attempt:03d}.jsonl"
    return log.exists() and log.read_bytes().count(b"\n") > 1


def test_killed_at_any_moment_and_run_again_it_ends_bit_identical(
    long: Sweep, undisturbed: Store, tmp_path: Path
) -> None:
    (run,), store, moments = long.runs, Store(tmp_path / "store"), random.Random(0)
    words = (
        "run",
        written(long, tmp_path),
        "--cluster",
        cluster_file(tmp_path, store=str(store.root), checkpoint_minutes=OFTEN),
    )
    for kills in range(2):  # the second after something was saved
        process = started(*words)
        while not (trains(store, run, kills) and (kills == 0 or newest(run, store))):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.4))
        process.kill()
        finished(process)
        assert not is_claimed(store.train_claim(run))
    status, _, err = finished(started(*words))
    assert status == 0, err
    starts = [read_lines(log)[0][0]["start"] for log in store.logs(run)]
    assert starts == sorted(starts) and starts[-1] > 0, (
        "every attempt went on from where the last one was"
    )
    same(store, undisturbed, run, 60, 160)


def signalled(
    number: int, moment: Callable[[], bool], capfd: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a verb here, with a signal at that moment."""

    def send() -> None:
        while not moment():
            if ended.wait(0.005):
                return
        os.kill(os.getpid(), number)

    ended, sender = Event(), Thread(target=send)
    sender.start()
    try:
        status = cli.main([str(word) for word in words])
    finally:
        ended.set()
        sender.join()
    return status, *capfd.readouterr()


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 1),
        (signal.SIGINT, 1),
        (signal.SIGHUP, 1),
        (signal.SIGINT, 2),
    ],
)
def test_a_signal_saves_and_exits(
    number: int,
    workers: int,
    long: Sweep,
    undisturbed: Store,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    endless = only_training((10_000_000,))  # whatever else this machine does, the signal is first
    (run,), store = endless.runs, Store(tmp_path / "store")
    words = ("run", written(endless, tmp_path), "--store", store.root, "--workers", workers)
    status, _, err = signalled(number, lambda: trains(store, run, 0), capfd, *words)
    stopped = newest(run, store)
    assert status == 130 and stopped > 0, (status, err)
    assert "Traceback" not in err and "run the same command to continue" in err.splitlines()[-1]
    assert ("Ctrl-C again" in err) == (number == signal.SIGINT or workers > 1)
    logged, oracle = curve(store, run), curve(undisturbed, run)
    assert len(logged) == stopped, "the log ends where the state is"
    assert logged[: len(oracle)] == oracle[:stopped]
    assert not [name for name in tree(store.root) if "/." in name], "nothing half-written"
    if (number, workers) == (signal.SIGTERM, 1):  # what the others leave is no different
        further, other = only_training((stopped + 20,)), Store(tmp_path / "other")
        train_all(further, store)
        train_all(further, other)
        same(store, other, run, stopped + 20)


def test_a_longer_sweep_goes_on_where_the_shorter_stopped(tmp_path: Path) -> None:
    once, twice = Store(tmp_path / "once"), Store(tmp_path / "twice")
    (run,) = only_training((40,)).runs
    train_all(only_training((20, 40)), once)
    train_all(only_training((20,)), twice)
    train_all(only_training((20, 40)), twice)
    assert [read_lines(log)[0][0]["start"] for log in twice.logs(run)] == [0, 20]
    same(twice, once, run, 20, 40)


def test_only_the_newest_two_states_are_kept_and_all_scored_weights(tmp_path: Path) -> None:
    sweep, store = only_training((20, 60, 120)), Store(tmp_path)
    train_all(sweep, store, checkpoint_minutes=OFTEN)
    (run,) = sweep.runs
    assert [step for step in store.steps(run) if store.state(run, step).exists()] == [100, 120]
    assert [step for step in store.steps(run) if store.ema(run, step).exists()] == [20, 60, 120]


def test_truncated_weights_are_reported_by_the_plan_and_repaired(tmp_path: Path) -> None:
    sweep, store = only_training((20, 40)), Store(tmp_path)
    train_all(sweep, store)
    (run,) = sweep.runs
    ema = store.ema(run, 20)
    whole = ema.read_bytes()
    ema.write_bytes(whole[:-1])
    (task,) = missing(sweep, store)
    assert (
        isinstance(task, Train) and task.reason == "checkpoint 20 is truncated; continues from 20"
    )
    do(task, store)
    assert ema.read_bytes() == whole and missing(sweep, store) == []


def first_drawn(run: Run, start: int) -> tuple[int, int]:
    """The class that is drawn last after step `start`, and the step of its first draw."""
    found: dict[int, int] = {}
    for step in range(start + 1, start + 21):
        for label in loop.make_batch(run, Digits(), torch.device("cpu"), step, 0, 8)[2].tolist():
            found.setdefault(label, step)
    return max(found.items(), key=lambda item: item[1])


def test_a_loss_that_is_not_finite_stops_and_names_the_steps(tmp_path: Path) -> None:
    """A weight so large that the first sample of its class overflows."""
    sweep, store = only_training((20, 60)), Store(tmp_path)
    (run,) = sweep.runs
    train_all(only_training((20,)), store)
    label, step = first_drawn(run, 20)
    tensors = load_tensors(store.state(run, 20))
    tensors["net.y_embedder.embedding_table.weight"][label] = 3e38
    save_tensors(store.state(run, 20), tensors)
    said = rf"{run.id}: .* not finite between steps 21 and 40; .* that of step 20: try a lower lr"
    with pytest.raises(UserError, match=said):
        train_all(sweep, store)
    assert newest(run, store) == 20 and is_whole(store.ema(run, 20))
    assert step > 21 and [done for done, *_ in curve(store, run)] == list(range(1, step)), (
        "no line from the first that is not finite"
    )


def test_training_that_diverges_stops(tmp_path: Path) -> None:
    sweep, store = only_training((4000,), lr=1.0), Store(tmp_path)
    with pytest.raises(UserError, match=r"not finite between steps \d+ and \d+"):
        train_all(sweep, store)
    assert newest(sweep.runs[0], store) == 0


def close(store: Store, other: Store, run: Run, step: int) -> None:
    """The same to rounding."""
    for mine, its in zip(curve(store, run), curve(other, run), strict=True):
        assert mine == pytest.approx(its, rel=1e-4, abs=1e-5)
    weights, others = load_file(store.ema(run, step)), load_file(other.ema(run, step))
    assert max(apart(weights[name], others[name]) for name in others) < 1e-4


RANK = """
import sys
sys.path.insert(0, "tests")
from helpers import *
from pathlib import Path
store, steps = Store(Path(sys.argv[1])), tuple(map(int, sys.argv[2:]))
train_all(only_training(steps, batch_size=12), store, microbatch=3)
"""


def test_the_number_of_processes_may_change_on_the_way(tmp_path: Path) -> None:
    """1 → 3 → 1 → 2 processes, microbatches of unequal size: one process's curve, to rounding."""
    alone, moved = Store(tmp_path / "alone"), Store(tmp_path / "moved")
    sweep = only_training((20, 40, 60, 80), batch_size=12)
    (run,) = sweep.runs
    train_all(sweep, alone)
    for world, steps in ((1, (20,)), (3, (20, 40)), (1, (20, 40, 60)), (2, (20, 40, 60, 80))):
        ranks(world, RANK, moved.root, *steps)
    close(moved, alone, run, 80)
    begun = [read_lines(log)[0][0] for log in moved.logs(run)]
    assert [(line["world"], line["start"]) for line in begun] == [(1, 0), (3, 20), (1, 40), (2, 60)]


def test_ranks_that_do_not_divide_the_batch_are_refused(tmp_path: Path) -> None:
    (task,) = missing(only_training((20,)), Store(tmp_path))
    assert isinstance(task, Train)
    place = Rank(0, 3, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"3 processes do not divide the batch of 8: ask for 2"):
        loop.train(task, Store(tmp_path), Cluster(), place, Stop(), lambda *_: None)


@pytest.mark.parametrize("microbatch", [1, 3, 4])
def test_gradient_accumulation_changes_nothing_but_rounding(
    microbatch: int, tmp_path: Path
) -> None:
    sweep, whole, parts = only_training((20,)), Store(tmp_path / "whole"), Store(tmp_path / "parts")
    train_all(sweep, whole)
    train_all(sweep, parts, microbatch=microbatch)
    close(parts, whole, sweep.runs[0], 20)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_training_learns_in_every_precision(precision: str, tmp_path: Path) -> None:
    sweep, store = only_training((40,), precision=precision, lr=5e-3), Store(tmp_path)
    train_all(sweep, store)
    (run,) = sweep.runs
    losses = [loss for _, loss, *_ in curve(store, run)]
    assert 0.9 < losses[0] < 1.2 and sum(losses[-10:]) / 10 < 0.9
    assert all(x.dtype == torch.float32 for x in load_file(store.ema(run, 40)).values())


def test_the_average_of_the_weights_is_kept_from_step_0(tmp_path: Path) -> None:
    """EMA = (1 - d) Σ d^(n-k) w_k + d^n w_0, from the weights of every step."""
    sweep, store = only_training(tuple(range(1, 6))), Store(tmp_path)
    (run,) = sweep.runs
    name, steps = "blocks.0.attn.qkv.weight", []
    for step in sweep.steps:
        train_all(only_training((step,)), store)
        steps.append(load_file(store.state(run, step))[f"net.{name}"])
    average = dict(new_network(run).named_parameters())[name].detach()
    for weight in steps:
        average = run.ema_decay * average + (1 - run.ema_decay) * weight
    assert apart(average, load_file(store.ema(run, 5))[name]) < 1e-6


def test_null_labels_are_dropped_as_often_as_the_run_says(tmp_path: Path) -> None:
    run, data = tiny_run(label_dropout=0.3, batch_size=256), Digits()
    labels = torch.cat(
        [loop.make_batch(run, data, torch.device("cpu"), step, 0, 256)[2] for step in range(1, 21)]
    )
    assert abs((labels == 10).float().mean() - 0.3) < 0.02 and labels.max() == 10
    _, t, _, noise = loop.make_batch(run, data, torch.device("cpu"), 1, 0, 256)
    assert 0 <= t.min() < 50 and 950 < t.max() <= 999 and abs(noise.std() - 1) < 0.02


def test_runs_of_one_seed_see_the_same_batches_whatever_the_model() -> None:
    small, large = tiny_run(), tiny_run(model="mini-DiT-XL/2", lr=1e-2)
    for mine, its in zip(
        *(loop.make_batch(run, Digits(), torch.device("cpu"), 7, 0, 8) for run in (small, large)),
        strict=True,
    ):
        assert torch.equal(mine, its)


def test_the_log_and_the_model_describe_themselves(tmp_path: Path) -> None:
    sweep, store = only_training((20,)), Store(tmp_path)
    train_all(sweep, store)
    (run,) = sweep.runs
    head, first, *_ = read_lines(store.logs(run)[0])[0]
    assert (
        head["start"] == 0
        and head["world"] == 1
        and head["versions"]["torch"] == torch.__version__
        and head["commit"]
    )
    assert (
        first["step"] == 1
        and first["images_per_second"] > 0
        and first["loss"] == first["mse"] + first["vb"]
    )
    model = read_json(store.model(run))
    assert model["params"] == sum(p.numel() for p in new_network(run).parameters())
    assert model["gflops"] == pytest.approx(model["macs"]["total"] / 1e9) and re.fullmatch(
        r"mini-DiT-S-8_\w{8}", run.id
    )


def test_a_task_in_other_hands_is_left_to_them(tmp_path: Path) -> None:
    from harness.base.locks import claim

    sweep, store = only_training((20,)), Store(tmp_path)
    (run,) = sweep.runs
    with (
        claim(store.train_claim(run)),
        pytest.raises(Locked, match="locked by another process"),
    ):
        train_all(sweep, store)
    assert not store.logs(run)


def test_a_training_whose_lock_was_removed_saves_and_stops(tmp_path: Path) -> None:
    """Another process could lock the name, and train the same run beside it."""
    sweep, store = only_training((100,)), Store(tmp_path)
    (run,) = sweep.runs
    (task,) = missing(sweep, store)

    def remove(line: str, share: float) -> None:
        store.train_claim(run).unlink(missing_ok=True)

    with pytest.raises(UserError, match=r"train.lock was removed while it was held"):
        perform(task, store, Cluster(), remove, Stop())
    stopped = newest(run, store)
    assert 0 < stopped < 100 and len(curve(store, run)) == stopped
    train_all(sweep, store)
    assert len(curve(store, run)) == 100


BROKEN = """
from harness.models import MODELS
from harness.models.dit_rows import DiTModel
from harness.spec import Run, Sweep

MODELS["broken"] = DiTModel("mini", "S", patch=8, depth=1, width=30, heads=4)  # 30 / 4 heads
run = Run(model="broken", data="digits", batch_size=8)
SWEEP = Sweep(name="broken", runs=[run], steps=[1], protocols=[])
"""


def test_a_shape_error_in_a_model_keeps_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MODELS, "broken", MODELS["mini-DiT-S/8"])  # removed at the end
    file = tmp_path / "broken.py"
    file.write_text(BROKEN)
    status, _, err = run_verb(capsys, "run", file, "--store", tmp_path / "store")
    assert status != 0 and "RuntimeError: " in err and "failures.log" in err
    log = (tmp_path / "store" / "failures.log").read_text()
    assert "Traceback (most recent call last)" in log and "RuntimeError: " in log
    assert re.search(r'models/dit\.py", line \d+, in forward', log)
