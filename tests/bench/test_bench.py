"""harness bench: real works measured, stored by device, and used by the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers import refused, run_verb, tiny_protocol, tiny_run, tiny_sweep, written

from harness.base.provenance import device_name
from harness.bench import timing as bench
from harness.bench import workloads as real
from harness.bench.timing import attempt, measure
from harness.bench.workloads import Workload, workloads
from harness.spec import Protocol, Run, Sweep
from harness.study import cost
from harness.study.cluster import Cluster
from harness.study.speed import Work, measured
from harness.study.store import Store

CPU = torch.device("cpu")
SWEEP = tiny_sweep(runs=(tiny_run(), tiny_run(model="mini-DiT-S/4")))
QUICK = ("--seconds", "0.02", "--device", "cpu")


def test_a_bench_is_stored_and_the_plan_counts_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, at = written(SWEEP, tmp_path), ("--store", tmp_path / "store")
    status, out, err = run_verb(capsys, "bench", sweep, *QUICK, *at)
    (path,) = Store(tmp_path / "store").speeds()
    rows = measured(path)["rows"]
    assert status == 0 and err.count("images/s\n") == len(rows) == 5
    assert path.name.startswith("cpu-") and "tiny" in out, "each protocol's time is shown"
    plan = json.loads(run_verb(capsys, "plan", sweep, *at, "--json")[1])
    assert plan["speed"]["device"] == device_name(CPU)
    speed = rows[cost.training(SWEEP.runs[0]).key]["images_per_second"]
    assert plan["runs"][0]["train_hours"] == pytest.approx(20 * 8 / speed / 3600)
    assert "Not measured" not in run_verb(capsys, "plan", sweep, *at)[1]


def test_measured_again_a_row_is_replaced_and_the_others_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, at = written(SWEEP, tmp_path), ("--store", tmp_path / "store")
    run_verb(capsys, "bench", sweep, *QUICK, *at)
    (path,) = Store(tmp_path / "store").speeds()
    before = measured(path)["rows"]
    words = ("--models", "mini-DiT-S/4", "--json", *QUICK, *at)
    assert len(json.loads(run_verb(capsys, "bench", sweep, *words)[1])) == 3
    after = measured(path)["rows"]
    assert before.keys() == after.keys()
    same = {key for key in before if before[key] == after[key]}
    assert same == {key for key in before if "mini-DiT-S/8" in key}


def test_an_interrupted_bench_keeps_what_it_measured(tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        bench.bench(SWEEP, store, Cluster(), CPU, 0.01, stop)
    assert len(measured(store.speed(device_name(CPU)))["rows"]) == 1


def test_mistakes_are_reported_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, at = written(SWEEP, tmp_path), ("--store", tmp_path / "store")
    assert "'DiT-S/3' is none of the sweep's" in refused(
        capsys, "bench", sweep, "--models", "DiT-S/3", *at
    )
    assert "--seconds" in refused(capsys, "bench", sweep, "--seconds", "0", *at)


def item(gmacs: float, limit: int = 1 << 20, **fields: object) -> Workload:
    """A work of `gmacs` that does nothing, on a device with room for `limit` images."""

    def make(batch: int, part: int) -> real.Call:
        if part > limit:
            raise torch.OutOfMemoryError
        return lambda: None

    return Workload(Work("training", "x", "fp32", gmacs), 64, 64, make, **fields)  # type: ignore[arg-type]


def test_a_microbatch_that_does_not_fit_is_halved_and_the_batch_stays() -> None:
    row = attempt(item(1e-6, limit=10), CPU, 1e12, 0.01)
    assert isinstance(row, dict) and (row["part"], row["batch"]) == (8, 64)
    assert attempt(item(1e-6, limit=0), CPU, 1e12, 0.01) == "one image does not fit into the memory"
    small = attempt(item(1e-6, bytes=lambda part: part * 1e12), CPU, 1e12, 0.01)
    assert small == "one image does not fit into the memory", (
        "a machine is not asked for what it does not have"
    )


def test_what_takes_too_long_is_done_with_a_smaller_batch_or_not_at_all() -> None:
    row = attempt(item(0.5), CPU, 1e12, 0.04)  # 1 ms an image, 8 ms a window
    assert isinstance(row, dict) and row["batch"] == 8
    assert (
        attempt(item(500.0), CPU, 1e12, 0.5)
        == "one image takes 1.0 s or more: --seconds 2 would measure it"
    )


def test_the_network_of_each_work_is_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latents bring the autoencoder, here with few channels, and Inception with random weights."""
    monkeypatch.setitem(real.AUTOENCODER, "block_out_channels", (32,) * 4)
    run, guided = Run(model="DiT-S/8"), Protocol(name="p", guidance=1.5)
    sweep = Sweep(
        name="s", runs=(run,), steps=(1,), protocols=(guided, Protocol(name="q", guidance=2.0))
    )
    items = workloads(sweep, Cluster(), CPU)
    assert [i.work for i in items] == list(dict.fromkeys(cost.works(run, sweep.protocols)))
    for each in items:
        row = measure(each, 1, 1, CPU, 1e12, 0.001)
        assert (
            row["images_per_second"] > 0
            and row["batch"] == 1
            and row["mfu"] is None
            and row["peak_bytes"] is None
        )
        assert row["tflops"] == pytest.approx(2e-3 * each.work.gmacs * row["images_per_second"])


def test_a_window_counts_the_forwards_of_the_sampler() -> None:
    run = tiny_run()
    for protocol, forwards in (
        (tiny_protocol(), 2),
        (tiny_protocol(sampling_steps=50, guidance=2.0), 8),
    ):
        assert real.sampling_workload(run, protocol, Cluster(), CPU).forwards == forwards
