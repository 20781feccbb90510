"""The runs that a study could have next, where its runs have steps of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import refused, tiny_protocol, tiny_run, tiny_sweep
from studies import rates

from harness.cli.candidates import alone, free_sizes, of_the_law, prolonged, siblings, steps_like
from harness.cli.written_sweep import source, sweep_source
from harness.models import MODELS
from harness.spec import Sweep
from harness.study.compute import gflops
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


def test_free_sizes_stand_between_the_studys_own_and_beside_them() -> None:
    """Of one depth where the study has one; a family without free sizes has none."""
    models = [*free_sizes(SWEEP)]
    sizes = [gflops(tiny_run(model=name)) for name in models]
    assert sizes == sorted(sizes) and len(set(sizes)) > 3
    assert all(MODELS[name].depth == 2 for name in models)  # type: ignore[attr-defined]
    assert sizes[0] == gflops(SMALL), "no width is below one head"
    assert sizes[-1] > gflops(LARGE)
    named = tiny_sweep(
        runs=[tiny_run(model=f"mini-DiT-{size}/{p}") for size in "SBL" for p in (8, 4)]
    )
    assert {MODELS[name].patch for name in free_sizes(named)} == {8, 4}
    assert [*free_sizes(tiny_sweep(runs=(tiny_run(model="digit-U-Net-S", data="digits8"),)))] == []


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


def test_candidates_have_the_recipe_that_the_law_is_of() -> None:
    """A study of two learning rates, of which one alone scored every model."""
    scores = rates()[lambda rows: rows["lr"].eq(0.003) | rows["size"].eq("S")]
    models = [f"mini-DiT-{size}/4" for size in "SBL"]
    runs = [tiny_run(model=model, lr=lr) for lr in (0.001, 0.003) for model in models]
    ids = {(run.model, run.lr): run.id for run in runs}
    named = [ids[model, lr] for model, lr in zip(scores["model"], scores["lr"], strict=True)]
    sweep = of_the_law(tiny_sweep(runs=runs), scores.assign(run=named), "fid")
    assert {run.lr for run in sweep.runs} == {0.003} and len(sweep.runs) == 3
    published = of_the_law(tiny_sweep(runs=runs), scores.assign(run=""), "fid")
    assert {run.lr for run in published.runs} == {0.001}


def test_a_run_whose_lr_decays_is_prolonged_with_its_decay() -> None:
    short, long = (tiny_run(schedule=f"wsd-2-{end - 2}-{end}") for end in (10, 20))
    sweep = tiny_sweep(runs=(), steps=(), trained={short: (8, 10), long: (20,)})
    (own,) = (run for run in siblings(sweep) if run.model == short.model)
    assert own == long and steps_like(own, sweep) == (20,)
    assert prolonged(own).schedule == "wsd-2-36-40"
    assert prolonged(SMALL) == SMALL


def test_a_sweep_is_never_written_over_another_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    path.write_text("SWEEP = ...")
    words = ("isoflop", "dit_grid", "--budgets", 1e18, "--out")
    assert f"--out {path} exists: move it away" in refused(capsys, *words, path)
    assert "give a file that ends in .py" in refused(capsys, *words, tmp_path / "mine")
    assert path.read_text() == "SWEEP = ..."
