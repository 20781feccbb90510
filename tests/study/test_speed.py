"""The plan's hours: as measured, scaled, or published, and always said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import refused, run_verb, tiny_protocol, tiny_run, tiny_sweep, written

from harness.base.files import write_json
from harness.cli.plan import plan_json, plan_text
from harness.spec import Protocol, Run, Sweep
from harness.study import compute, cost
from harness.study.cluster import Cluster
from harness.study.plan import survey, untouched
from harness.study.speed import Work, basis, known_speed, rate
from harness.study.store import Store

RUN = Run(model="DiT-S/4", precision="bf16")
PROTOCOL = Protocol(name="p", images=1000, sampling_steps=100, guidance=1.5)
SWEEP = Sweep(name="s", runs=(RUN,), steps=(10, 30), protocols=(PROTOCOL,))
SPEEDS = {
    cost.training(RUN): 50.0,
    cost.sampling(RUN, PROTOCOL): 400.0,
    cost.autoencoder("decoding", "imagenet256"): 20.0,
    cost.autoencoder("encoding", "imagenet256"): 40.0,
    cost.features(PROTOCOL): 500.0,
}


def measure(
    store: Store,
    device: str,
    speeds: dict[Work, float],
    kind: str = "cuda",
    day: str = "2026-01-02",
) -> Path:
    """The file that a bench on that device would have left."""
    rows = {
        work.key: {
            **vars(work),
            "images_per_second": speed,
            "date": f"{day}T00:00:00+00:00",
            "part": 64,
        }
        for work, speed in speeds.items()
    }
    write_json(store.speed(device), {"device": device, "kind": kind, "rows": rows})
    return store.speed(device)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_measured_hours_are_images_over_images_a_second(store: Store) -> None:
    measure(store, "NVIDIA X1", SPEEDS)
    plan = plan_json(SWEEP, store, Cluster())
    (row,) = plan["runs"]
    expected = {
        "train_hours": 30 * 256 / 50 / 3600,
        "sample_hours": 2 * 1000 * 100 * 2 / 400 / 3600,  # two checkpoints, two forwards a step
        "decode_hours": 2 * 1000 / 20 / 3600,
        "feature_hours": 2 * 1000 / 500 / 3600,
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected)
    assert row["evaluate_hours"] == pytest.approx(sum(expected.values()) - expected["train_hours"])
    assert plan["totals"]["encode_hours"] == pytest.approx(2 * 1_281_167 / 40 / 3600)
    text = plan_text(plan)
    assert (
        "measured on NVIDIA X1, 2026-01-02, not compiled, microbatch 64" in text
        and "published" not in text
    )


def test_encoding_is_of_datasets_without_latents(store: Store, tmp_path: Path) -> None:
    def encodings(sweep: Sweep, cluster: Cluster) -> dict[str, cost.Cost]:
        return cost.encodings(survey(sweep, store), cluster, known_speed(store, cluster))

    taken = encodings(SWEEP, Cluster())["imagenet256"]
    assert taken.disk_bytes == 1_281_167 * 2 * 2 * 4 * 32 * 32 * 2
    cluster = Cluster(paths={"imagenet256": str(tmp_path)})
    assert encodings(SWEEP, cluster), "a folder without an index is not encoded"
    (tmp_path / "index.json").touch()
    assert encodings(SWEEP, cluster) == {} == encodings(tiny_sweep(), Cluster())


def test_an_unmeasured_model_is_scaled_from_the_nearest_and_it_is_said(store: Store) -> None:
    measure(
        store, "NVIDIA X1", SPEEDS | {cost.training(Run(model="DiT-XL/2", precision="bf16")): 1.0}
    )
    speed = known_speed(store, Cluster())
    for model, near in (("DiT-S/8", "DiT-S/4"), ("DiT-L/2", "DiT-XL/2")):
        other, known = (cost.training(Run(model=name, precision="bf16")) for name in (model, near))
        found = rate(other, speed)
        assert found.row == known.key
        assert found.images_per_second * other.gmacs == pytest.approx(
            rate(known, speed).images_per_second * known.gmacs
        )
        assert any(
            f"{other.key}: scaled by multiply-adds from {known.key}" in line
            for line in basis([other], speed)
        )


def test_precision_counts_before_size_and_kind_of_work(store: Store) -> None:
    measure(store, "NVIDIA X1", SPEEDS)
    wanted = Run(model="DiT-S/4", precision="fp32")
    assert (
        rate(cost.training(wanted), known_speed(store, Cluster())).row
        == cost.sampling(RUN, PROTOCOL).key
    )


def test_without_a_measurement_the_published_figure_is_named(store: Store) -> None:
    speed = known_speed(store, Cluster())
    spent = cost.cost(untouched(RUN, SWEEP), SWEEP, speed)
    assert spent.train_hours == pytest.approx(compute.training_flop(RUN, 30) / 76.5e12 / 3600)
    text = plan_text(plan_json(SWEEP, store, Cluster()))
    assert "76.5 TFLOP/s on A100, published (fast-DiT" in text and "harness bench" in text


def test_of_two_devices_the_newest_of_the_clusters_kind_is_used_and_named(store: Store) -> None:
    measure(store, "NVIDIA X1", SPEEDS, day="2026-01-02")
    measure(store, "NVIDIA X2", SPEEDS, day="2026-01-05")
    measure(store, "CPU x, 1 threads", SPEEDS, "cpu", day="2026-01-09")
    gpus, cpus = (Cluster(executor="slurm", gpus_per_node=n) for n in (1, 0))
    assert [
        known_speed(store, c).device for c in (gpus, cpus, Cluster(device="cuda"), Cluster())
    ] == [
        "NVIDIA X2",
        "CPU x, 1 threads",
        "NVIDIA X2",
        "CPU x, 1 threads",
    ]
    assert "--on would take another" in plan_text(plan_json(SWEEP, store, gpus))
    assert known_speed(store, gpus, "x1").device == "NVIDIA X1"


def test_a_device_nobody_measured_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(store, "NVIDIA X1", SPEEDS)
    line = refused(
        capsys, "plan", written(tiny_sweep(), tmp_path), "--store", store.root, "--on", "H100"
    )
    assert "--on 'H100'" in line and "NVIDIA X1" in line and "harness bench" in line


@pytest.mark.parametrize(
    "damage", ["{", "[]", "{}", '{"rows": {}}', "rows", "speed", "part", "kind"]
)
@pytest.mark.parametrize("verb", ["plan", "status"])
def test_a_damaged_measurement_is_named(
    damage: str, verb: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = measure(store, "NVIDIA X1", SPEEDS)
    file: dict[str, Any] = json.loads(path.read_text())
    if damage == "rows":
        file["rows"] = {"one": {"what": "training"}}
    if damage == "speed":
        next(iter(file["rows"].values()))["images_per_second"] = 0.0
    if damage == "part":
        next(iter(file["rows"].values()))["part"] = [64]
    if damage == "kind":
        file["kind"] = "abacus"
    path.write_text(damage if damage.startswith(("{", "[")) else json.dumps(file))
    line = refused(capsys, verb, written(tiny_sweep(), tmp_path), "--store", store.root)
    assert str(path) in line and "move it away and run" in line


def test_scaling_does_not_depend_on_what_else_is_in_the_plan(store: Store) -> None:
    measure(store, "NVIDIA X1", {cost.training(tiny_run()): 100.0})
    alone, both = (
        plan_json(tiny_sweep(runs=runs, protocols=(tiny_protocol(),)), store, Cluster())["runs"][0]
        for runs in ((tiny_run(),), (tiny_run(), tiny_run(model="mini-DiT-S/4")))
    )
    assert alone == both


def test_the_plan_is_told_by_the_verb(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measure(store, "NVIDIA X1", SPEEDS)
    status, text, _ = run_verb(capsys, "plan", written(SWEEP, tmp_path), "--store", store.root)
    assert status == 0 and "on one NVIDIA X1" in text and "imagenet256 has no latents yet" in text
