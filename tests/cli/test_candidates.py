"""The runs that a study could have next, where its runs have steps of their own."""

from __future__ import annotations

from pathlib import Path

from helpers import tiny_protocol, tiny_run, tiny_sweep

from harness.cli.candidates import alone, siblings, source, steps_like, sweep_source
from harness.spec import Sweep
from harness.study.sweep_file import load_sweep

SMALL = tiny_run(model="mini-DiT-w16-d2-h16/8")
LARGE = tiny_run(model="mini-DiT-w64-d2-h16/8")
CHEAP, DEAR = tiny_protocol(name="cheap"), tiny_protocol(name="dear")
SWEEP = tiny_sweep(
    runs=(),
    steps=(),
    trained={SMALL: (20, 40), LARGE: (10,)},
    protocols={CHEAP: (10, 20, 40), DEAR: (10, 40)},
)


def read_again(sweep: Sweep, folder: Path) -> Sweep:
    path = folder / "again.py"
    path.write_text(sweep_source(sweep, "Again."))
    return load_sweep(str(path))


def test_the_studys_own_free_sizes_are_candidates_beside_the_named_ones() -> None:
    models = {run.model for run in siblings(SWEEP)}
    assert {SMALL.model, LARGE.model, "mini-DiT-S/8"} <= models


def test_a_run_has_the_steps_of_the_nearest_size() -> None:
    assert steps_like(tiny_run(model="mini-DiT-w16-d3-h16/8"), SWEEP) == (20, 40)
    assert steps_like(tiny_run(model="mini-DiT-XL/8"), SWEEP) == (10,)


def test_a_run_alone_is_scored_as_the_sweep_scores_it(tmp_path: Path) -> None:
    seed = tiny_run(model=SMALL.model, seed=1)
    again = alone(seed, (20, 40), SWEEP)
    assert again.scores_of(seed) == [(20, CHEAP), (40, CHEAP), (40, DEAR)]
    longer = alone(seed, (80,), SWEEP)
    assert longer.scores_of(seed) == [(80, CHEAP), (80, DEAR)]
    for sweep in (again, longer):
        assert read_again(sweep, tmp_path) == sweep


def test_a_written_sweep_is_the_sweep(tmp_path: Path) -> None:
    assert read_again(SWEEP, tmp_path) == SWEEP
    kept = tiny_sweep(keep=("latents", "features"))
    assert read_again(kept, tmp_path) == kept
    assert "lr=0.001" in source(SMALL) and "seed" not in source(SMALL)
