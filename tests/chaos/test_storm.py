"""Storms of signals over a study: it ends byte for byte where an undisturbed one ends."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import cluster_file, finished, started, tiny_protocol, tiny_run, tiny_sweep, written
from storms import Storm, results, watched
from trials import temporary_files, verb

RUNS, STEPS = (tiny_run(), tiny_run(seed=1)), (40, 120)
PATIENCE = 600  # seconds; only for what hangs


# Saves at every look, asks often, does not give up.
OFTEN = {"checkpoint_minutes": 1e-9, "poll_seconds": 0.3, "retries": 10_000, "workers": 2}


def cluster(folder: Path, **fields: object) -> Path:
    folder.mkdir()
    store = str(folder / "store")
    return cluster_file(folder, store=store, executor="local", device="cpu", **fields)


def weather(folder: Path, storm: Storm, rage: Callable[[Storm, Path], None]) -> None:
    """Lets the storm rage, the study come to its end, and compares it with an undisturbed one."""
    sweep = tiny_sweep(runs=RUNS, steps=STEPS, protocols=(tiny_protocol(images=16),))
    path, store = written(sweep, folder), folder / "stormy" / "store"
    quiet, stormy = cluster(folder / "quiet"), cluster(folder / "stormy", **OFTEN)
    oracle = started("run", path, "--cluster", quiet)
    storm.words = [str(path), "--cluster", str(stormy)]
    try:
        with watched(store) as versions:
            rage(storm, store)
            status, _, err = finished(oracle, PATIENCE)
            assert status == 0, err
            finish(storm, path, stormy)
    finally:
        oracle.kill()
        storm.clear()
    print(f"storm: {storm.summary()}")
    compare(path, store, folder / "quiet" / "store")
    twice = [str(file) for file, found in versions.items() if len(found) > 1]
    assert not twice, f"{twice} were written twice"
    assert not (left := temporary_files(store)), f"{len(left)} temporary files stay: {left[:5]}"


def finish(storm: Storm, sweep: Path, stormy: Path) -> None:
    """The commands go on to their end, and one more where they were hit."""
    for number in list(storm.living):
        storm.reap(number, PATIENCE)
    if "nothing is missing" not in verb("plan", sweep, "--cluster", stormy).out:
        storm.commands.append(["run", "--workers", "1"])
        storm.start(last := len(storm.commands) - 1)
        assert storm.reap(last, PATIENCE) == 0, storm.errors[-2:]
    assert not (left := storm.remaining(PATIENCE)), f"processes {left} are still there"


def compare(sweep: Path, store: Path, quiet: Path) -> None:
    for at in (store, quiet):
        assert verb("collect", sweep, "--store", at, "--out", at / "tables").status == 0
    found, expected = results(store), results(quiet)
    assert len(expected["log"]) == len(RUNS) * STEPS[-1] and len(expected["weights"]) == 4
    for part in expected:
        assert found[part] == expected[part], f"{part} differ"


def test_a_storm_of_signals_leaves_no_trace(tmp_path: Path) -> None:
    def rage(storm: Storm, store: Path) -> None:
        storm.rage(6, 0.7, store)
        storm.commands[0] = ["launch", "--follow"]  # when the run before has ended
        storm.rage(8, 1.4, store)

    weather(tmp_path, Storm(random.Random(5), [["run", "--workers", "2"]]), rage)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(5))
def test_a_long_storm_over_two_runs_and_two_followers(
    seed: int, shim: Path, tmp_path: Path
) -> None:
    """Every second one on a slow disk."""
    store = tmp_path / "stormy" / "store"
    slow = {"LD_PRELOAD": str(shim), "CHAOS_SLOW": f"20000:{store}"} if seed % 2 else {}
    commands = 2 * [["run", "--workers", "2"], ["launch", "--follow"]]
    weather(
        tmp_path,
        Storm(random.Random(seed), commands, slow),
        lambda storm, store: storm.rage(64, 1.0, store),
    )
