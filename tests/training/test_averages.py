"""Averages of weights: several at once, and any length rebuilt from their snapshots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import only_training, score_all, tiny_protocol, tiny_run, tiny_sweep, train_all
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.tensors import load_tensors
from harness.scoring.averages import rebuilt, rebuilt_warnings
from harness.spec import Run
from harness.spec.ema import Average, gamma_of
from harness.spec.profiles import shares
from harness.study.checks import problems
from harness.study.cluster import Cluster
from harness.study.compute import parameters
from harness.study.memory import training
from harness.study.plan import missing, survey
from harness.study.store import Store

TWO = "power-0.05+power-0.1"
STEPS = tuple(range(15, 121, 15))


def trained(folder: Path, ema: str, steps: tuple[int, ...] = STEPS) -> tuple[Store, Run]:
    store, fields = Store(folder), {"ema": ema, "ema_decay": 0.9999}
    train_all(only_training(steps, **fields), store)
    return store, tiny_run(**fields)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Run]:
    return trained(tmp_path_factory.mktemp("two"), TWO)


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return float(sum((a[name].double() - b[name].double()).square().sum() for name in b) ** 0.5)


def test_each_of_two_averages_is_the_one_of_a_run_with_it_alone(
    two: tuple[Store, Run], tmp_path: Path
) -> None:
    store, run = two
    for kind, ema in (("ema", "power-0.05"), ("ema-0.1", "power-0.1")):
        alone, other = trained(tmp_path / ema, ema, (30,))
        ours, theirs = (
            load_tensors(store.weights(run, 30, kind)),
            load_tensors(alone.ema(other, 30)),
        )
        assert all(torch.equal(ours[name], x) for name, x in theirs.items())


def test_an_average_in_between_is_rebuilt_close_to_the_one_that_was_tracked(
    two: tuple[Store, Run], tmp_path: Path
) -> None:
    """Against the nearer of both tracked ones, a tenth as far off or less."""
    store, run = two
    alone, other = trained(tmp_path, "power-0.075", (120,))
    wanted = load_tensors(alone.ema(other, 120))
    found, digest = rebuilt(store, run, 120, "ema-0.075")
    kept = [load_tensors(store.weights(run, 120, kind)) for kind in run.averages]
    nearest = min(distance(each, wanted) for each in kept)
    assert 0 < distance(found, wanted) < nearest / 10
    again = rebuilt(store, run, 120, "ema-0.075")
    assert again[1] == digest != rebuilt(store, run, 120, "ema-0.06")[1]
    assert all(torch.equal(again[0][name], x) for name, x in found.items())


def test_a_tracked_average_rebuilt_from_itself_is_itself() -> None:
    found = shares((0.05, 0.1), [200, 400, 1000], 0.1, 1000)
    assert found.error < 1e-6
    assert found.of == pytest.approx(np.array([[0, 0], [0, 0], [0, 1.0]]), abs=1e-6)


@pytest.mark.parametrize("width", [0.03, 0.06, 0.075, 0.15])
def test_shares_add_up_to_one_and_come_nearer_with_more_snapshots(width: float) -> None:
    found = [
        shares((0.05, 0.1), [1000 * (k + 1) // n for k in range(n)], width, 1000)
        for n in (1, 2, 4, 8, 16)
    ]
    assert [each.of.sum() for each in found] == pytest.approx([1.0] * 5)
    errors = [each.error for each in found]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 4


def test_the_error_is_that_of_the_profiles_step_by_step() -> None:
    """Against profiles as training weighs its steps, of 4,000 steps."""

    def profile(width: float, end: int) -> np.ndarray:
        kept = [Average(gamma=gamma_of(width)).kept(step) for step in range(1, end + 1)]
        later = np.append(np.cumprod(kept[::-1])[::-1][1:], 1.0)
        return np.append((1 - np.array(kept)) * later, np.zeros(4000 - end))

    ends = [1000, 2000, 3000, 4000]
    found = shares((0.05, 0.1), ends, 0.15, 4000)
    sums = sum(
        share * profile(width, end)
        for end, row in zip(ends, found.of, strict=True)
        for width, share in zip((0.05, 0.1), row, strict=True)
    )
    wanted = profile(0.15, 4000)
    error = np.linalg.norm(sums - wanted) / np.linalg.norm(wanted)
    assert error == pytest.approx(found.error, rel=0.02)


def test_a_run_with_two_averages_goes_on_as_if_it_had_not_stopped(
    two: tuple[Store, Run], tmp_path: Path
) -> None:
    store, run = two
    parts, _ = trained(tmp_path, TWO, (15,))
    trained(tmp_path, TWO, (15, 30))
    for kind in run.averages:
        assert (
            parts.weights(run, 30, kind).read_bytes() == store.weights(run, 30, kind).read_bytes()
        )


def test_protocols_score_any_length_and_say_what_it_is_off_by(tmp_path: Path) -> None:
    run = tiny_run(ema=TWO, ema_decay=0.9999)
    protocols = {
        weights: tiny_protocol(name=weights.replace(".", "-"), weights=weights)
        for weights in ("ema", "ema-0.05", "ema-0.1", "ema-0.08")
    }
    sweep = tiny_sweep(runs=(run,), protocols=tuple(protocols.values()))
    store = Store(tmp_path)
    train_all(sweep, store)
    score_all(sweep, store)
    assert [cell.tasks for cell in survey(sweep, store)] == [()]
    records = {name: read_json(store.record(run, 20, p)) for name, p in protocols.items()}
    assert records["ema"]["checkpoint"] == records["ema-0.05"]["checkpoint"]
    assert len({record["checkpoint"] for record in records.values()}) == 3
    warnings = rebuilt_warnings(store, run, 20, "ema-0.08")
    assert "rebuilt from 2 snapshots of power-0.05+power-0.1, off by" in warnings[0]
    assert warnings[0] in records["ema-0.08"]["warnings"]
    assert not any("rebuilt" in line for line in records["ema-0.1"]["warnings"])


def test_an_average_that_snapshots_cannot_give_is_refused(two: tuple[Store, Run]) -> None:
    store, run = two
    with pytest.raises(UserError, match=r"cannot be rebuilt from 1 snapshots .* off by \d+%"):
        rebuilt(store, run, 15, "ema-0.25")
    with pytest.raises(UserError, match="no averages at step 7 to rebuild"):
        rebuilt(store, run, 7, "ema-0.08")
    with pytest.raises(UserError, match=r"tracks no power average: train it with ema="):
        tiny_sweep(protocols=(tiny_protocol(weights="ema-0.075"),))
    for weights in ("ema-0.4", "ema-0.10", "ema-", "mean"):
        with pytest.raises(UserError, match="take ema, raw, or ema-WIDTH"):
            tiny_protocol(weights=weights)
    with pytest.raises(UserError, match=r"must rise: power-0.05\+power-0.1"):
        tiny_run(ema="power-0.1+power-0.05", ema_decay=0.9999)


def test_an_average_that_the_steps_of_a_sweep_will_not_give_is_refused_before_training(
    tmp_path: Path,
) -> None:
    def found(*steps: int) -> list[str]:
        run = tiny_run(ema="power-0.05", ema_decay=0.9999)
        sweep = tiny_sweep(
            runs=(run,), steps=steps, protocols={tiny_protocol(weights="ema-0.06"): steps[-1:]}
        )
        every = problems(sweep, missing(sweep, Store(tmp_path)), Cluster(store=str(tmp_path)))
        return [line for line in every if "ema-" in line]

    (line,) = found(120)
    assert line.startswith(
        "ema-0.06 cannot be rebuilt from snapshots of power-0.05, it would be off"
    )
    assert "at step 120: score more steps before" in line
    assert found(*STEPS) == []


def test_a_second_average_is_counted_in_memory_and_files() -> None:
    one, more = (tiny_run(ema=ema, ema_decay=0.9999) for ema in ("power-0.05", TWO))
    assert training(more, Cluster()) - training(one, Cluster()) == 4 * parameters(one)
    assert [*more.averages] == ["ema", "ema-0.1"]
