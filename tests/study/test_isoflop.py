"""Runs of equal compute: every point meets its budget, around the best size, or says why not."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import ROOT, tiny_run

from analysis.forecast import is_intact
from harness.base.errors import UserError
from harness.models import MODELS
from harness.models.free_sizes import FAMILIES
from harness.spec import Run
from harness.study import compute
from harness.study.isoflop import (
    LEAST_STEPS,
    SPAN,
    TOLERANCE,
    Ladder,
    isoflop,
    points_of,
    rungs,
    runs_of,
)
from harness.study.sweep_file import load_sweep

FORECASTS = ROOT / "results" / "forecasts"
PAPER = Run(model="DiT-S/2")
DIGITS = tiny_run(model="digit-DiT-S/2", data="digits8", batch_size=32)


def ladder(like: Run, head: int, depth: int | None = None) -> Ladder:
    return Ladder(like.model_row.family, like.setting, 2, head, depth)


@pytest.mark.parametrize("depth", [None, 4])
@pytest.mark.parametrize("budget", [1e17, 6e18, 1e20])
def test_each_point_meets_its_budget_and_lies_about_the_best_size(
    budget: float, depth: int | None
) -> None:
    best = 4 * math.sqrt(budget / 1e18)
    points = points_of(budget, best, PAPER, ladder(PAPER, 64, depth), 5)
    assert len(points) == 5
    sizes = []
    for point in points:
        run = Run(model=point.model)
        assert compute.training_flop(run, point.steps) == pytest.approx(point.spent)
        assert abs(point.off) <= TOLERANCE and point.steps >= LEAST_STEPS
        assert depth in (None, getattr(run.model_row, "depth", None))
        sizes.append(compute.gflops(run))
    assert all(a < b for a, b in pairwise(sizes))
    half = 1.5 * SPAN ** (1 / 4)  # half a rung, and how far the nearest width may be
    assert sizes[0] == pytest.approx(best / SPAN, rel=half - 1)
    assert sizes[-1] == pytest.approx(best * SPAN, rel=half - 1)


@pytest.mark.parametrize("count", [3, 5, 6, 9])
def test_rungs_span_a_factor_four_each_way_and_are_shared_by_budgets(count: int) -> None:
    found = rungs(0.0123, count)
    assert len(found) == count and found[-1] / found[0] == pytest.approx(SPAN**2)
    ratio = found[1] / found[0]
    assert found[1:] == pytest.approx(rungs(0.0123 * ratio, count)[:-1])


def test_free_depths_keep_to_the_aspect_of_the_family() -> None:
    free, aspect = ladder(PAPER, 64), FAMILIES["DiT"].aspect
    for gflops in (1.0, 10.0, 100.0):
        row = MODELS[free.nearest(gflops)]
        assert 0.4 < row.width / row.depth / aspect < 2.5  # type: ignore[attr-defined]


def test_a_run_that_serves_several_budgets_is_one_run() -> None:
    points = isoflop([1e12, 4e11, 1e12], lambda c: 2e-3, DIGITS, ladder(DIGITS, 16, 2), 5)
    seeds = [DIGITS, tiny_run(model="digit-DiT-S/2", data="digits8", batch_size=32, seed=1)]
    runs = runs_of(points, seeds)
    assert len(points) == 10 and len(runs) == 10, "five sizes, two budgets, two seeds"
    for run, steps in runs.items():
        spent = [compute.training_flop(run, step) for step in steps]
        assert spent == pytest.approx([4e11, 1e12], rel=TOLERANCE)


def test_budgets_that_no_width_meets_name_those_that_would_be_met() -> None:
    short = ladder(DIGITS, 16, 2)
    with pytest.raises(UserError) as error:
        isoflop([1e5, 1e12], lambda c: 2e-3, DIGITS, short, 5)
    text = str(error.value)
    assert "fewer than 3 widths of digit-DiT" in text and "1e+12:" not in text
    named = float(text.partition("100000: ")[2].split()[0])
    assert isoflop([named], lambda c: 2e-3, DIGITS, short, 5), "what it names is met"
    with pytest.raises(UserError, match="none near it would be met"):
        isoflop([1e12], lambda c: 1e30, DIGITS, short, 5)


BUDGETS = {
    "digits_laws": [5e10, 1e11, 2e11, 4e11],
    "digits_laws_mup": [5e10, 1e11, 2e11, 4e11],
    "imagenet_laws": [1e17, 3e17, 6e17, 1e18, 3e18, 6e18],
}
FORECAST = 1.6e12  # of the digits, held out


@pytest.mark.parametrize("name", BUDGETS)
def test_every_step_of_the_studies_of_equal_compute_spends_a_budget(name: str) -> None:
    sweep, met = load_sweep(name), Counter[float]()
    for run in sweep.runs:
        for step in sweep.steps_of(run):
            spent = compute.training_flop(run, step)
            known = [*BUDGETS[name], FORECAST]
            (budget,) = [b for b in known if abs(spent / b - 1) <= TOLERANCE]
            met[budget] += run.seed == 0
    least = 4 if name == "imagenet_laws" else 5
    assert all(met[budget] >= least for budget in BUDGETS[name])
    assert met[FORECAST] == (0 if name == "imagenet_laws" else 2)


@pytest.mark.parametrize("name", ["digits_laws", "digits_laws_mup"])
def test_the_committed_tables_are_of_the_runs_and_steps_of_their_sweeps(name: str) -> None:
    sweep = load_sweep(name)
    with (ROOT / "results" / "measured" / f"{name}.csv").open(newline="") as file:
        rows = {(row["run"], int(row["step"]), row["protocol"]) for row in csv.DictReader(file)}
    wanted = {(run.id, step, p.id) for run in sweep.runs for step, p in sweep.scores_of(run)}
    assert rows == wanted


@pytest.mark.parametrize("path", sorted(FORECASTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_forecasts_are_as_they_were_made_and_of_the_held_out_runs(path: Path) -> None:
    found = json.loads(path.read_text())
    assert is_intact(found)
    sweep = load_sweep(found["study"])
    (steps,) = {sweep.steps_of(r) for r in sweep.runs if r.model == found["model"] and not r.seed}
    assert found["step"] == steps[-1]
    assert found["outcome"]["hit"] == (found["low"] <= found["outcome"]["value"] <= found["high"])
