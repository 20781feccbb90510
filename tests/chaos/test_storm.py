"""Storms of signals over a study: whatever was killed, it ends byte for byte where an undisturbed one ends."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from helpers import cluster_file, finished, started, tiny_protocol, tiny_run, tiny_sweep, written
from storms import Storm, results, strays, watched, zombies
from trials import LONG, verb

SEED = 5


def study(folder: Path) -> Path:
    """Two short trainings with many checkpoints, and their scores."""
    runs = (tiny_run(), tiny_run(seed=1))
    return written(tiny_sweep(runs=runs, steps=(100, 300), protocols=(tiny_protocol(images=16),)), folder)


def cluster(folder: Path, store: Path, name: str) -> Path:
    """Saves at every look, asks often, and does not give up."""
    return cluster_file(
        folder, store=str(store), executor="local", device="cpu", workers=2, checkpoint_minutes=1e-9,
        poll_seconds=0.3, retries=10_000,
    ).rename(folder / f"{name}.toml")  # fmt: skip


def test_a_storm_of_signals_leaves_no_trace(tmp_path: Path) -> None:
    sweep, store = study(tmp_path), tmp_path / "store"
    file, began = cluster(tmp_path, store, "stormy"), time.monotonic()
    oracle = started("run", sweep, "--cluster", cluster(tmp_path, tmp_path / "quiet", "quiet"), "--workers", 1)
    run = ["run", str(sweep), "--cluster", str(file), "--workers", "2"]
    launch = ["launch", str(sweep), "--cluster", str(file), "--follow"]
    storm = Storm(random.Random(SEED), [run])
    with watched(store) as versions:
        storm.rage(13, 0.7, store)
        storm.commands.append(launch)
        storm.rage(22, 1.4, store)
        status, _, err = finished(oracle)
        assert status == 0, err
        end(storm, run)
    print(f"storm: {storm.told()}, {time.monotonic() - began:.0f} s")
    same(storm, versions, store, tmp_path / "quiet", sweep)


def end(storm: Storm, run: list[str]) -> None:
    """The commands go on to their end, and one more where they were hit."""
    for number in list(storm.living):
        storm.ended(number, 120)
    if "nothing is missing" not in verb("plan", *run[1:4]).out:
        status, out, err = finished(started(*run))
        assert status == 0, (out, err, storm.errors[-2:])
    assert not (left := storm.calm(60)), f"processes {left} are still there"


def same(storm: Storm, versions: dict[Path, list[tuple[int, int]]], store: Path, quiet: Path, sweep: Path) -> None:
    for at in (store, quiet):
        assert verb("collect", sweep, "--store", at, "--out", at / "tables").status == 0
    found, expected = results(store, store / "tables"), results(quiet, quiet / "tables")
    assert len(expected["log"]) == 600 and expected["weights"]  # type: ignore[arg-type]
    for part in expected:
        assert found[part] == expected[part], f"{part} differ"
    twice = [path.name for path, seen in versions.items() if len(seen) > 1]
    assert not twice, f"{twice} were written twice"
    assert not (left := strays(store)), f"{len(left)} temporary files stay: {left[:5]}"


@pytest.mark.chaos
def test_a_long_storm_over_two_runs_and_two_followers(tmp_path: Path) -> None:
    seeds, kills = range(5), 64
    for seed in seeds:
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        sweep, store = study(folder), folder / "store"
        file = cluster(folder, store, "stormy")
        oracle = started("run", sweep, "--cluster", cluster(folder, folder / "quiet", "quiet"), "--workers", 1)
        run = ["run", str(sweep), "--cluster", str(file), "--workers", "2"]
        launch = ["launch", str(sweep), "--cluster", str(file), "--follow"]
        storm = Storm(random.Random(seed), [run, run, launch, launch])
        with watched(store) as versions:
            storm.rage(kills, 1.0, store)
            assert finished(oracle)[0] == 0
            end(storm, run)
        print(f"storm {seed}: {storm.told()}")
        same(storm, versions, store, folder / "quiet", sweep)
