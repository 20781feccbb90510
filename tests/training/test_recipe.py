"""The fields of a run's recipe: optimizers, schedules, and losses that must not move."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, only_training, tiny_run, train_all

from harness.base.errors import UserError
from harness.base.tensors import load_tensors
from harness.spec.ema import read_ema
from harness.spec.optimizers import OPTIMIZERS
from harness.spec.schedule import Schedule, read_schedule
from harness.study.store import Store

# Losses of steps 1 … 20 by recipe, of tiny_run() in fp32 on a CPU. A change of what a field means
# moves them: then Run.recipe gets another number, and the changelog says why.
GOLDEN: dict[str, dict[str, str]] = {
    "ddpm": {},
    "flow": {"objective": "flow"},
    "ddpm-min-snr": {"objective": "ddpm-min-snr"},
    "adamw-0.9-0.95": {"optimizer": "adamw-0.9-0.95"},
    "wsd": {"schedule": "wsd-5-10-20"},
}


def losses(folder: Path, **fields: object) -> list[float]:
    store, sweep = Store(folder), only_training((20,), **fields)
    train_all(sweep, store)
    return [line["loss"] for line in store.read_log(sweep.runs[0])[0]]


def test_a_schedule_rises_stays_and_falls() -> None:
    factors = [Schedule(4, (10, 20)).factor(step) for step in range(1, 22)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert set(factors[3:10]) == {1.0}
    assert all(a > b for a, b in pairwise(factors[9:20])) and factors[19:] == [0.0, 0.0]
    assert {Schedule().factor(step) for step in (1, 10**6)} == {1.0}


@pytest.mark.parametrize("text", ["cosine", "warmup-0", "warmup", "wsd-10-5-20", "wsd-1-5-5"])
def test_what_is_no_schedule_is_refused_with_the_forms(text: str) -> None:
    assert read_schedule(text) is None
    with pytest.raises(UserError, match=r"schedule = .* is no schedule: write constant, warmup-"):
        tiny_run(schedule=text)


def test_one_meaning_has_one_id() -> None:
    plain = {"objective": "ddpm", "optimizer": "adamw", "schedule": "constant", "recipe": 1}
    assert tiny_run(**plain, conditioning="adaLN-Zero").id == tiny_run().id
    with pytest.raises(UserError, match=r"recipe = 2"):
        tiny_run(recipe=2)


def test_with_a_warm_up_the_first_steps_are_smaller(tmp_path: Path) -> None:
    plain = losses(tmp_path / "plain")
    slow = losses(tmp_path / "slow", schedule="warmup-1000")
    assert plain[0] == slow[0]  # before the first step they are one network
    assert sum(plain[10:]) < sum(slow[10:])


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_a_power_average_is_as_wide_as_it_says_at_any_length(width: float) -> None:
    """The weights it gives to the steps have that deviation, relative to the number of steps."""
    average = read_ema(f"power-{width}", 0.0)
    assert average is not None
    for steps in (2_000, 8_000):
        shares = np.zeros(steps)
        for step in range(1, steps + 1):
            shares[:step] *= average.kept(step)
            shares[step - 1] += 1 - average.kept(step)
        time = np.arange(1, steps + 1) / steps
        mean = (shares * time).sum()
        assert shares.sum() == pytest.approx(1)
        assert np.sqrt((shares * (time - mean) ** 2).sum()) == pytest.approx(width, rel=0.01)


def test_the_average_of_a_run_is_the_one_it_names(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (run,) = (sweep := only_training((3,), ema="power-0.1", ema_decay=0.9999)).runs
    train_all(sweep, store)
    last = load_tensors(store.state(run, 3), "cpu")
    name = "final_layer.linear.weight"
    assert not torch.equal(last[f"ema.{name}"], last[f"net.{name}"])
    with pytest.raises(UserError, match=r"ema_decay = 0.9 beside ema = 'power-0.1': leave one"):
        tiny_run(ema="power-0.1", ema_decay=0.9)
    with pytest.raises(UserError, match=r"is no average: write power-WIDTH"):
        tiny_run(ema="power-0.4")


@pytest.mark.parametrize("ema", [None, "power-0.1"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", ["warmup-7", "wsd-2-6-12"])
def test_a_run_goes_on_as_if_it_had_not_stopped(
    optimizer: str, schedule: str, ema: str | None, tmp_path: Path
) -> None:
    fields = {"optimizer": optimizer, "schedule": schedule, "ema": ema, "ema_decay": 0.9999}
    whole, parts = Store(tmp_path / "whole"), Store(tmp_path / "parts")
    for store, ends in ((whole, [(10,)]), (parts, [(4,), (10,)])):
        for steps in ends:
            train_all(only_training(steps, **fields), store)
    run = only_training((10,), **fields).runs[0]
    assert parts.ema(run, 10).read_bytes() == whole.ema(run, 10).read_bytes()


@pytest.mark.parametrize("recipe", GOLDEN)
def test_the_meaning_of_the_fields_stands(recipe: str, tmp_path: Path) -> None:
    golden = json.loads((ROOT / "tests" / "fixtures" / "golden_losses.json").read_text())
    assert losses(tmp_path, **GOLDEN[recipe]) == pytest.approx(golden[recipe], rel=1e-4)
