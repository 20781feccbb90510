"""A score redone in part: what was sampled or measured once is not done twice."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import do, score_all, tiny_protocol, tiny_run, tiny_sweep, train_all
from torch import Tensor, nn

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.tensors import load_tensors, read_metadata, save_tensors
from harness.cli.plan import plan_json, plan_text
from harness.scoring import inputs, sample
from harness.scoring.arrays import write_array
from harness.spec import Protocol, Sweep
from harness.study import cost
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.speed import Speed
from harness.study.store import Store
from harness.study.tasks import Evaluate, from_json, to_json

RUN = tiny_run()
PLAIN = tiny_protocol()
MORE = tiny_protocol(metrics=("kid", "mind"))
LATENTS = ("features", "latents")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A checkpoint, scored once with everything kept."""
    store = Store(tmp_path_factory.mktemp("kept"))
    train_all(swept(), store)
    score_all(swept(keep=LATENTS), store)
    return store


@pytest.fixture
def store(trained: Store, tmp_path: Path) -> Store:
    return Store(shutil.copytree(trained.root, tmp_path / "store"))


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that passed through a network, call by call."""
    seen: list[int] = []
    load = sample.load_network

    def counted(*args: Any) -> tuple[nn.Module, str]:
        net, digest = load(*args)
        net.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
        return net, digest

    monkeypatch.setattr(inputs, "load_network", counted)
    return seen


def swept(*protocols: Protocol, **fields: Any) -> Sweep:
    return tiny_sweep(steps=(10,), protocols=protocols or (PLAIN,), **fields)


def the_task(sweep: Sweep, store: Store) -> Evaluate:
    (task,) = missing(sweep, store)
    assert isinstance(task, Evaluate) and from_json(to_json(task)) == task and task.ready
    return task


def values(store: Store, protocol: Protocol) -> dict[str, float]:
    found: dict[str, float] = read_json(store.record(RUN, 10, protocol))["values"]
    return found


def test_the_halves_of_a_protocol_have_ids_and_metrics_have_none() -> None:
    assert MORE.id == PLAIN.id == "tiny_269b7bfb"
    assert (MORE.sampled, MORE.measured) == (PLAIN.sampled, PLAIN.measured)
    for field, value in {"guidance": 2.0, "seed": 1, "weights": "raw", "sampler": "ddim"}.items():
        other = tiny_protocol(**{field: value})
        assert other.sampled != PLAIN.sampled and other.measured == PLAIN.measured
    for field, value in {"reference": "mine", "images": 128, "features": "inception"}.items():
        other = tiny_protocol(**{field: value})
        assert other.sampled == PLAIN.sampled and other.measured != PLAIN.measured


def test_a_metric_added_later_is_computed_from_kept_features_without_a_forward(
    store: Store, forwards: list[int]
) -> None:
    path = store.record(RUN, 10, PLAIN)
    before, text = read_json(path), path.read_text()
    task = the_task(swept(MORE), store)
    assert task.reason == "no kid, mind in its record; from kept features"
    do(task, store)
    after = read_json(path)
    assert forwards == [] and missing(swept(MORE), store) == []
    assert {k: v for k, v in after.items() if k not in ("values", "added")} == {
        k: v for k, v in before.items() if k != "values"
    }
    assert list(after["values"].items())[: len(before["values"])] == [*before["values"].items()]
    assert all(f'"{name}": {value!r}' in text for name, value in before["values"].items())
    (added,) = after["added"]
    assert added["values"] == ["kid", "mind"] and added["source"] == "features"
    assert added["date"] and added["commit"]


def test_values_from_kept_features_are_those_computed_at_once(store: Store) -> None:
    do(the_task(swept(MORE), store), store)
    later = values(store, MORE)
    shutil.rmtree(store.run(RUN) / "evals")
    shutil.rmtree(store.run(RUN) / "samples")
    do(the_task(swept(MORE), store), store)
    assert values(store, MORE) == later


def test_another_reference_costs_no_forward(
    store: Store, forwards: list[int], numbers: Tensor, tmp_path: Path
) -> None:
    store.references().mkdir()
    write_array(store.references() / "some.npz", [numbers[:500]], 500)
    other = tiny_protocol(reference="some")
    task = the_task(swept(PLAIN, other), store)
    assert task.reason == "not scored; from kept features"
    do(task, store)
    assert forwards == [] and values(store, other)["fid"] != values(store, PLAIN)["fid"]
    assert values(store, other)["inception_score"] == values(store, PLAIN)["inception_score"]


def test_fewer_images_are_the_first_of_more(store: Store, forwards: list[int]) -> None:
    few = tiny_protocol(images=40)
    do(the_task(swept(few), store), store)
    assert forwards == [] and read_json(store.record(RUN, 10, few))["n"] == 40
    kept = values(store, few)
    shutil.rmtree(store.run(RUN) / "samples")
    store.record(RUN, 10, few).unlink()
    do(the_task(swept(few), store), store)
    assert sum(forwards) == 2 * 40 and values(store, few) == pytest.approx(kept, rel=1e-3)


def test_more_images_than_are_kept_are_sampled(store: Store, forwards: list[int]) -> None:
    many = tiny_protocol(images=70)
    task = the_task(swept(many), store)
    assert task.source == "network"
    do(task, store)
    assert sum(forwards) == 2 * 70


def test_features_that_are_gone_are_made_of_kept_latents(store: Store, forwards: list[int]) -> None:
    """As those of a second extractor or decoder are."""
    before = values(store, PLAIN)
    shutil.rmtree(store.shards(RUN, 10, PLAIN))
    store.record(RUN, 10, PLAIN).unlink()
    task = the_task(swept(), store)
    assert task.reason == "not scored; from kept latents"
    do(task, store)
    assert forwards == [] and values(store, PLAIN) == before
    assert read_json(store.record(RUN, 10, PLAIN))["source"] == "latents"


def test_a_second_extractor_of_kept_latents_costs_no_forward_of_the_network(
    store: Store, forwards: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.extractors import EXTRACTORS

    row = copy.copy(EXTRACTORS["digits-cnn-1"])
    monkeypatch.setitem(EXTRACTORS, "second", row)
    other = tiny_protocol(features="second")
    task = the_task(swept(PLAIN, other), store)
    assert task.source == "latents"
    do(task, store)
    assert forwards == [] and read_json(store.record(RUN, 10, other))["source"] == "latents"
    assert values(store, other)["fid"] == values(store, PLAIN)["fid"], "the same weights"


def test_without_anything_kept_the_plan_says_what_is_sampled_again_and_its_cost(
    store: Store, forwards: list[int]
) -> None:
    shutil.rmtree(store.run(RUN) / "samples")
    before = values(store, PLAIN)
    (row,) = plan_json(swept(MORE), store, Cluster())["runs"]
    assert row["reason"].endswith("its images were not kept: sampled again")
    assert row["sample_hours"] > 0
    do(the_task(swept(MORE), store), store)
    assert sum(forwards) == 2 * 64
    assert values(store, MORE).items() > before.items()
    assert read_json(store.record(RUN, 10, MORE))["added"][0]["source"] == "network"


def test_what_is_computed_from_kept_features_costs_nothing_in_the_plan(store: Store) -> None:
    (row,) = plan_json(swept(MORE), store, Cluster())["runs"]
    assert row["sample_hours"] == row["decode_hours"] == row["feature_hours"] == 0


def test_weights_that_are_gone_are_not_trained_again_for_a_metric(store: Store) -> None:
    shutil.rmtree(store.run(RUN) / "checkpoints")
    do(the_task(swept(MORE), store), store)
    assert "mind" in values(store, MORE)


def test_other_weights_are_never_mixed_into_a_record(store: Store) -> None:
    tensors = load_tensors(store.ema(RUN, 10))
    save_tensors(store.ema(RUN, 10), {name: x + 0.1 for name, x in tensors.items()})
    do(the_task(swept(MORE), store), store)  # of the features of before, and so of its record
    again = tiny_protocol(metrics=("kid", "mind", "density"))
    shutil.rmtree(store.run(RUN) / "samples")
    with pytest.raises(UserError, match=r"is of weights .* are there now: move it away"):
        do(the_task(swept(again), store), store)


def test_another_reference_of_the_same_name_is_never_mixed_into_a_record(
    store: Store, numbers: Tensor
) -> None:
    path = store.references() / "some.npz"
    path.parent.mkdir()
    write_array(path, [numbers[:500]], 500)
    do(the_task(swept(tiny_protocol(reference="some")), store), store)
    write_array(path, [numbers[:400]], 400)
    inputs.cached_reference.cache_clear()  # a process reads a reference once
    task = the_task(swept(tiny_protocol(reference="some", metrics="kid")), store)
    with pytest.raises(UserError, match="taken with another reference than some"):
        do(task, store)


def test_kept_features_of_older_code_serve_and_are_not_mixed_with_new_ones(
    store: Store, forwards: list[int]
) -> None:
    (path,) = store.shards(RUN, 10, PLAIN).glob("*.safetensors")
    save_tensors(path, load_tensors(path), read_metadata(path) | {"code": "of last year"})
    do(the_task(swept(MORE), store), store)
    assert forwards == []


def test_a_damaged_shard_of_kept_features_is_made_again(store: Store, forwards: list[int]) -> None:
    (path,) = store.shards(RUN, 10, PLAIN).glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1000] ^= 64
    path.write_bytes(data)
    said = do(the_task(swept(MORE), store), store)
    assert "they are damaged" in said[0] and forwards == [], "its latents are whole"


@pytest.mark.parametrize(
    ("keep", "there"),
    [((), set()), (("latents",), {"latents"}), (LATENTS, {"latents", "identity.digits-cnn-1"})],
)
def test_the_sweep_says_what_is_kept_and_the_plan_what_that_takes(
    keep: tuple[str, ...], there: set[str], store: Store
) -> None:
    shutil.rmtree(store.run(RUN) / "evals")
    shutil.rmtree(store.run(RUN) / "samples")
    sweep = swept(keep=keep)
    sizes = {"latents": 64 * 4 * 256, "identity.digits-cnn-1": 64 * 4 * 330}
    wanted = sum(sizes[name] for name in there) + (0 if "features" in keep else 64 * 4 * 330)
    plan = plan_json(sweep, store, Cluster())
    assert plan["totals"]["kept_bytes"] == wanted and "of samples" in plan_text(plan)
    do(the_task(sweep, store), store)
    folder = store.samples(RUN, 10, PLAIN)
    assert {path.name for path in folder.glob("*")} == there
    for name in there:
        held = sum(path.stat().st_size for path in (folder / name).iterdir())
        assert sizes[name] <= held < sizes[name] + 20_000, "a preview and headers are small"


def test_protocols_that_sample_alike_are_counted_once() -> None:
    three = tuple(
        Protocol(name=f"fid50k-{decoder}", decoder=decoder)
        for decoder in ("original", "ft-mse", "ft-ema")
    )
    speed = Speed("a device", "a test", tflops=1.0)
    sweep = tiny_sweep(runs=tiny_run(model="DiT-S/8", data="imagenet256"), protocols=three)
    from harness.study.plan import untouched

    def spent(keep: tuple[str, ...]) -> cost.Cost:
        kept = tiny_sweep(runs=sweep.runs, protocols=three, keep=keep)
        return cost.cost(untouched(sweep.runs[0], kept), kept, speed)

    once, thrice = spent(("latents",)), spent(())
    assert thrice.sample_hours == pytest.approx(3 * once.sample_hours)
    assert thrice.decode_hours == pytest.approx(once.decode_hours)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"metrics": ("fidd",)}, "metrics = .'fidd',. names 'fidd', which is unknown: did you"),
        ({"metrics": "kid"}, ""),
    ],
)
def test_metrics_are_names_of_values(fields: dict[str, Any], fault: str) -> None:
    if not fault:
        assert tiny_protocol(**fields).metrics == ("kid",)
        return
    with pytest.raises(ValueError, match=fault):
        tiny_protocol(**fields)


def test_a_sweep_keeps_what_it_knows() -> None:
    with pytest.raises(ValueError, match="keep: 'images' is unknown: there are features, latents"):
        swept(keep="images")


def test_features_in_half_precision_would_change_values(store: Store) -> None:
    """Why they are kept in fp32: a value added later must be the one computed at once."""
    from harness.metrics.values import values as measured
    from harness.scoring.inputs import load_extractor, load_reference

    (path,) = store.shards(RUN, 10, PLAIN).glob("*.safetensors")
    extractor = load_extractor(PLAIN, Cluster(), torch.device("cpu"))
    reference = load_reference(PLAIN, Cluster(), store, extractor, 16)
    layers = {name: load_tensors(path)[name] for name in extractor.layers}
    half = {name: x.half().float() for name, x in layers.items()}
    fids = [measured(x, reference, ("fid",))["fid"] for x in (layers, half)]
    assert fids[0] == values(store, PLAIN)["fid"] and 0 < abs(fids[1] / fids[0] - 1) < 1e-3
    assert np.isfinite(fids).all()


def test_the_hours_of_values_added_later_are_counted() -> None:
    added = [{"seconds": 30.0, "world": 2}, {"seconds": 10.0, "world": 1}]
    record = {"seconds": 100.0, "world": 1, "added": added}
    assert cost.used_hours([], [record, {"seconds": 5.0}]) == pytest.approx(175 / 3600)
