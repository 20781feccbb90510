"""Validation: an estimate of the loss on images that were not trained on, with an honest error."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import do, score_all, tiny_protocol, tiny_run, tiny_sweep, train_all
from torch import Tensor

from harness.base import rng
from harness.base.errors import UserError
from harness.base.files import read_json, write_json
from harness.cli.plan import plan_json
from harness.data import DATASETS, open_dataset, open_held_out
from harness.data.digits import load
from harness.objectives import OBJECTIVES
from harness.scoring.sample import load_network
from harness.scoring.validate import estimates, grid, losses, summary
from harness.spec import Run, Validation
from harness.study.checks import problems
from harness.study.cluster import Cluster
from harness.study.collect import collect
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Evaluate, from_json, to_json

CPU = torch.device("cpu")
RUN = tiny_run(model="digit-DiT-S/8", data="digits8-split", batch_size=32, lr=3e-3)
SMALL = Validation(name="val", points=2048)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("validated"))
    train_all(tiny_sweep(steps=(100,), runs=RUN, protocols=()), store)
    return store


def terms_of(store: Store, validation: Validation, run: Run = RUN, batch: int = 1024) -> Tensor:
    net, _ = load_network(store, run, 100, validation.weights, CPU)
    images, points = open_held_out(run.data), validation.points
    spans = [(low, min(points, low + batch)) for low in range(0, points, batch)]
    return torch.cat([losses(net, run, validation, images, *span, CPU) for span in spans])


def values_of(store: Store, validation: Validation) -> dict[str, float]:
    terms = terms_of(store, validation)
    found: dict[str, float] = summary(terms, ("mse", "vb"), validation)["values"]
    return found


def test_held_out_digits_are_never_trained_on_and_all_digits_still_are() -> None:
    trained, held_out = open_dataset("digits8-split"), open_held_out("digits8-split")
    parts = [dataset.batch(torch.arange(len(dataset)), 0, CPU) for dataset in (trained, held_out)]
    assert [len(x) for x, _ in parts] == [1437, 360]
    images, labels = load("digits8")
    joined = sorted(x.tolist() for x in torch.cat([x for x, _ in parts]).flatten(1))
    assert joined == sorted(x.tolist() for x in images.flatten(1)), "together they are all digits"
    assert parts[1][1].bincount().min() >= 25, "each class is held out"
    assert trained.origin.digest != held_out.origin.digest
    assert len(open_dataset("digits8")) == len(labels) == 1797


def test_the_grid_has_one_time_a_stratum_and_every_image_equally_often() -> None:
    position = grid(SMALL, 0, 2048)
    assert torch.equal((position * 2048).long().sort().values, torch.arange(2048))
    assert torch.equal(grid(SMALL, 700, 900), position[700:900])
    assert not torch.equal(grid(Validation(name="val", points=2048, seed=1), 0, 2048), position)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_times_of_the_grid_are_distributed_as_those_of_training(objective: str) -> None:
    process = OBJECTIVES[objective].process()
    drawn = process.times(0, 20_000, CPU, "a test").double().sort().values
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    spread = float(drawn.max() - drawn.min())
    assert float((process.quantiles(u).double() - drawn).abs().max()) < 0.03 * spread
    assert process.quantiles(u).dtype == process.times(0, 1, CPU, "a test").dtype


def test_an_estimate_is_the_mean_over_uniform_times_and_its_error_that_of_seeds() -> None:
    """Of a loss that is known: 1 / (u + 0.1) and noise of a tenth."""
    exact, found = torch.tensor(11.0).log().item(), []
    for seed in range(60):
        position, _ = grid(Validation(name="v", points=512, seed=seed), 0, 512).sort()
        clean = 1 / (position.square() + 0.1)
        noise = rng.normal(0, 512, (), "cpu", "a test", seed).double()
        found.append(estimates({"x": clean * (1 + noise / 10)}, position))
    mean, error = (torch.tensor([one[name] for one in found]) for name in ("x", "x_se"))
    assert abs(float(mean.mean()) - exact) < 3 * float(mean.std()) / 60**0.5
    assert float(error.mean()) == pytest.approx(float(mean.std()), rel=0.25)


def test_the_error_of_a_validation_is_not_less_than_the_spread_of_its_seeds(store: Store) -> None:
    found = [values_of(store, Validation(name="v", points=2048, seed=seed)) for seed in range(12)]
    for name in ("val_loss", "val_mse", "val_vb"):
        spread = torch.tensor([one[name] for one in found]).std()
        error = torch.tensor([one[f"{name}_se"] for one in found]).mean()
        assert 0.5 * spread < error < 3 * spread


def test_the_default_size_is_precise_to_a_thousandth(store: Store) -> None:
    """Over seeds of the grid: the spread of four is known to a factor of three at worst."""
    found = [values_of(store, Validation(name="v", seed=seed))["val_loss"] for seed in range(4)]
    spread, mean = torch.tensor(found).std(), sum(found) / 4
    assert spread < 1e-3 * mean


def test_no_value_depends_on_the_batch(store: Store) -> None:
    whole, parts = (terms_of(store, SMALL, batch=size) for size in (2048, 100))
    assert torch.allclose(whole, parts, rtol=1e-3, atol=1e-6)


def test_a_validation_is_recorded_collected_and_never_done_twice(
    store: Store, tmp_path: Path
) -> None:
    raw = Validation(name="raw", points=2048, weights="raw")
    sweep = tiny_sweep(steps=(), runs=RUN, protocols={SMALL: 100, raw: 100, tiny_protocol(): 100})
    tasks = [task for task in missing(sweep, store) if isinstance(task, Evaluate)]
    assert [from_json(to_json(task)) for task in tasks] == tasks and len(tasks) == 3
    score_all(sweep, store, sampling_batch=500)
    assert missing(sweep, store) == []
    record = read_json(store.record(RUN, 100, SMALL))
    values, bins = record["values"], record["bins"]
    assert values["val_loss"] == pytest.approx(values["val_mse"] + values["val_vb"])
    assert sum(one["loss"] for one in bins) / 10 == pytest.approx(values["val_loss"], rel=0.02)
    assert bins[0]["mse"] > bins[5]["mse"] and record["n"] == 2048
    other = read_json(store.record(RUN, 100, raw))["values"]["val_loss"]
    assert 0 < abs(other - values["val_loss"]) < values["val_loss"]
    table, _, warnings = collect(sweep, store, tmp_path)
    rows = [row for row in csv.DictReader(table.open()) if row["protocol"] == SMALL.id]
    assert warnings == [] and {row["metric"] for row in rows} == values.keys()
    assert rows[0]["reference"].startswith("digits8-split-validation-")
    assert (rows[0]["sampler"], rows[0]["n"], rows[0]["weights"]) == ("", "2048", "ema")
    (sampled,) = (p for p in sweep.protocols if p == tiny_protocol())
    assert any(row["protocol"] == sampled.id for row in csv.DictReader(table.open()))


def test_every_objective_can_be_validated(tmp_path: Path) -> None:
    run = tiny_run(data="digits-split", objective="flow-logit-normal")
    sweep = tiny_sweep(steps=(2,), runs=run, protocols=Validation(name="val", points=64))
    store = Store(tmp_path)
    for task in missing(sweep, store):
        do(task, store)
    (protocol,) = sweep.protocols
    values = read_json(store.record(run, 2, protocol))["values"]
    assert list(values) == ["val_loss", "val_loss_se", "val_mse", "val_mse_se"]
    assert values["val_loss"] == values["val_mse"] > 0


def test_the_plan_says_what_a_validation_costs(tmp_path: Path) -> None:
    sweep = tiny_sweep(runs=Run(model="DiT-XL/2"), steps=400_000, protocols=Validation(name="val"))
    plan = plan_json(sweep, Store(tmp_path), Cluster())
    flop = 2 * 118.64e9 * 131_072
    assert plan["totals"]["validate_hours"] == plan["totals"]["evaluate_hours"]
    assert plan["totals"]["validate_hours"] == pytest.approx(flop / 76.5e12 / 3600, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"points": 5}, "points = 5 must be at least 20"),
        ({"weights": "both"}, "weights = 'both' is unknown"),
        ({"sampler": "ddpm"}, "sampler is unknown"),
    ],
)
def test_a_validation_refuses_what_it_does_not_know(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Validation(**{"name": "val"} | fields)


def test_data_without_held_out_images_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"digits8 has no held-out images: train on .*digits8-split"
    ):
        tiny_sweep(runs=tiny_run(model="mini-DiT-S/8", data="digits8"), protocols=SMALL)


def test_absent_held_out_latents_are_named_before_anything_starts(tmp_path: Path) -> None:
    sweep = tiny_sweep(runs=Run(model="DiT-S/8"), protocols=SMALL)
    task = Evaluate(sweep.runs[0], 10, SMALL, True, "a test")
    (fault,) = problems(sweep, [task], Cluster(store=str(tmp_path)))
    assert "set paths.imagenet256-validation in the cluster file" in fault


def test_a_run_trained_on_the_held_out_images_is_refused(store: Store) -> None:
    path, before = store.data(RUN), read_json(store.data(RUN))
    write_json(path, open_held_out(RUN.data).origin.to_json())
    with pytest.raises(UserError, match="was trained on the held-out images"):
        do(Evaluate(RUN, 100, Validation(name="again", points=64), True, "a test"), store)
    write_json(path, before)


def test_the_ids_of_validations_stand() -> None:
    assert Validation(name="val").id == "val_c7c664e7"
    assert DATASETS["imagenet256"].held_out == 50_000
