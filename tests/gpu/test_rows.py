"""What make gpu-bench writes is what plan counts with."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, refused, run_verb, tiny_protocol, tiny_sweep, written
from place import DEVICE, everywhere

from harness.base.provenance import device_name
from harness.study import cost, speed
from harness.study.cluster import Cluster
from harness.study.speed import known_speed, rate
from harness.study.store import Store

SWEEP = tiny_sweep()


@pytest.fixture
def gpu_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script, and an empty folder in place of results/measured."""
    monkeypatch.setattr(
        sys, "path", [*sys.path, *(str(ROOT / path) for path in ("tests/benchmarks", "docs"))]
    )
    monkeypatch.setattr(speed, "MEASURED_SPEEDS", tmp_path)
    return importlib.import_module("gpu_rows")


@everywhere
def test_the_plan_counts_with_committed_rows_where_the_device_is_named(
    gpu_rows: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = gpu_rows.file_of(DEVICE, tmp_path)
    rows = [*gpu_rows.measured_rows(SWEEP, False, DEVICE, 0.02)]
    slower = [row | {"compile": True, "images_per_second": 1e-3} for row in rows]
    for found in (rows, slower, rows):
        texts = [gpu_rows.row_of(row, DEVICE) for row in found]
        gpu_rows.write(path, texts, gpu_rows.COLUMNS, gpu_rows.KEY)
    assert len(gpu_rows.read(path)) == 2 * len(rows) == 6, "a row measured again is replaced"
    store, cluster, name = Store(tmp_path / "none"), Cluster(), device_name(DEVICE)
    counted = known_speed(store, cluster, name.upper())
    for row in rows:
        key = f"{row['what']} {row['subject']} {row['precision']}"
        assert counted.rows and counted.rows[key]["images_per_second"] == row["images_per_second"]
    work = cost.training(SWEEP.runs[0])
    assert rate(work, counted).row == work.key
    assert known_speed(store, cluster).rows is None, "no other machine counts with them unasked"
    words = ("plan", written(SWEEP, tmp_path), "--store", store.root, "--on", name)
    assert name in run_verb(capsys, *words)[1]
    assert f"({name})" in refused(capsys, *words[:-1], "X9")
    import speed_table

    (line,) = (x for x in speed_table.tables(tmp_path).splitlines() if f" {work.subject} |" in x)
    assert line.startswith(f"| training {work.subject} |")


@everywhere
def test_committed_speeds_can_be_counted_with() -> None:
    for path in speed.MEASURED_SPEEDS.glob("speed_*.csv"):
        file = speed.committed(path)
        assert file["rows"] and all(map(speed.is_row, file["rows"].values())), path
        assert file["kind"] in ("cpu", "cuda") and path.stem.startswith("speed_")


@everywhere
def test_the_bench_of_the_grid_measures_every_work_of_a_plan(gpu_rows: Any) -> None:
    """So that no hour of the grid's plan is scaled from another network."""
    from harness.study.sweep_file import load_sweep

    grid, timed = load_sweep("dit_grid"), gpu_rows.sweep_of(gpu_rows.GRID, ["tf32", "bf16"])
    of_timed, of_grid = (
        {work.key for run in sweep.runs for work in cost.works(run, sweep.sampling)}
        for sweep in (timed, grid)
    )
    assert of_grid <= of_timed


def test_a_measured_row_has_the_peak_of_memory_on_a_gpu(gpu_rows: Any) -> None:
    (row, *_) = gpu_rows.measured_rows(tiny_sweep(protocols=(tiny_protocol(),)), False, DEVICE, 0.1)
    assert (row["peak_bytes"] is not None) == (DEVICE.type == "cuda")
