"""`harness isoflop`: a sweep that plans, centred on a law, with what it costs and still lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, refused, run_verb, tiny_protocol, tiny_run, tiny_sweep, written
from joint_worlds import LAW, STEPS, JointWorld, frame, normal
from studies import PAPER

from analysis.grid import final
from harness.base.files import write_json
from harness.models import MODELS
from harness.study import compute
from harness.study.registry import register
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

BUDGETS = (1e17, 1e18, 1e19)


def loaded(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, Any]:
    status, out, err = run_verb(capsys, "isoflop", *words, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def law(n: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The planted law at 256 tokens."""
    rows = frame(n, np.full_like(n, 256), d, range(len(n)))
    return JointWorld(rows, LAW, normal(0), 0).scores(n, np.full_like(n, 256.0), d)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """The paper's twelve at six steps, scored by the planted law with a little noise."""
    models = PAPER[PAPER["protocol"].eq("fid50k")].drop_duplicates("model")
    models = models.drop(columns=["step", "images", "value"]).assign(study="planted")
    steps = pd.DataFrame({"step": STEPS})
    rows = models.merge(final(PAPER)[["model", "tokens"]], on="model").merge(steps, how="cross")
    n = (1e9 * rows["gflops"] / rows["tokens"]).to_numpy()
    world = JointWorld(frame(n, n, n, range(len(n))), LAW, normal(0), 0)
    scores = world.scores(n, rows["tokens"].to_numpy(), 256 * rows["step"].to_numpy())
    noise = np.exp(1e-3 * np.random.default_rng(0).standard_normal(len(n)))
    path = tmp_path / "planted.csv"
    rows.assign(value=scores * noise, images=256 * rows["step"]).to_csv(path, index=False)
    return path


def test_the_law_of_a_study_is_the_centre(
    capsys: pytest.CaptureFixture[str], study: Path, tmp_path: Path
) -> None:
    words = ("--budgets", *BUDGETS, "--store", tmp_path / "store")
    found = loaded(capsys, "dit_grid", *words, "--patch", 2, "--study", study)
    for budget in BUDGETS:
        sizes = [row["gflops"] for row in found["points"] if row["budget"] == budget]
        n = np.geomspace(1e5, 1e11, 20_000)
        best = n[law(n, budget / (6 * 256 * n)).argmin()] * 256 / 1e9
        assert len(sizes) == 5
        assert np.exp(np.log(sizes).mean()) == pytest.approx(best, rel=0.6), "half a rung is √2"


def test_what_it_writes_is_a_sweep_that_plans_as_it_said(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out, store = tmp_path / "iso.py", ("--store", tmp_path / "store")
    words = ("dit_grid", "--budgets", *BUDGETS, "--patch", 2, *store, "--out", out)
    found = loaded(capsys, *words)
    assert found["basis"][0].startswith("the published law of Liang et al.")
    sweep = load_sweep(str(out))
    assert sweep.protocols == load_sweep("dit_grid").protocols
    for row in found["points"]:
        (run,) = (run for run in sweep.runs if run.model == row["model"])
        assert row["steps"] in sweep.steps_of(run)
        assert compute.training_flop(run, row["steps"]) == pytest.approx(row["budget"], rel=0.01)
    status, text, _ = run_verb(capsys, "plan", out, *store, "--json")
    assert status == 0 and json.loads(text)["totals"] == found["plan"]["totals"]
    assert found["plan"]["totals"]["train_hours"] > 1


def test_u_vits_of_equal_compute_have_even_depths(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = loaded(capsys, "uvit_grid", "--budgets", 1e19, "--patch", 2, "--store", tmp_path)
    rows = [MODELS[row["model"]] for row in found["points"]]
    assert len(rows) >= 3
    assert all(row.family == "U-ViT" and row.depth % 2 == 0 for row in rows)  # type: ignore[attr-defined]
    assert all(abs(row["off"]) <= 0.01 for row in found["points"])


def test_a_sweep_of_several_families_gives_the_runs_of_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("compare_digits", "--budgets", 1e11, "--centre", 1e-3, "--store", tmp_path)
    for family in ("digit-DiT", "digit-U-ViT"):
        found = loaded(capsys, *words, "--family", family)
        assert {MODELS[row["model"]].family for row in found["points"]} == {family}


def test_under_mup_all_widths_have_one_depth(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = loaded(capsys, "imagenet_laws", "--budgets", 1e18, "--store", tmp_path)
    assert all("-d12-h64/2" in row["model"] for row in found["points"])


def test_points_that_the_store_has_are_not_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    like = tiny_run(model="digit-DiT-S/2", data="digits8", batch_size=32)
    path = written(tiny_sweep(runs=(like,), protocols=(tiny_protocol(),)), tmp_path)
    words = ("--budgets", 1e11, "--centre", 1e-3, "--depth", 2, "--store", tmp_path / "store")
    out = tmp_path / "iso.py"
    found = loaded(capsys, path, *words, "--out", out)
    assert [row["missing"] for row in found["points"]] == [1] * 5
    store, sweep = Store(tmp_path / "store"), load_sweep(str(out))
    run = next(iter(sweep.runs))
    ((step, protocol),) = sweep.scores_of(run)
    register(run, store)
    write_json(store.record(run, step, protocol), {})
    again = loaded(capsys, path, *words)
    assert {row["model"]: row["missing"] for row in again["points"]}[run.model] == 0
    assert sum(row["missing"] for row in again["points"]) == 4


def test_what_cannot_be_asked_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], study: Path
) -> None:
    budgets = ("--budgets", 1e18)
    refusals: dict[tuple[object, ...], str] = {
        ("dit_grid", "--budgets", 0, "--sizes", 2, "--depth", 0): "--budgets 0: give operations"
        " above 0; --sizes 2: give 3 to 50, a parabola needs three; --depth 0: give 1 to 512",
        ("dit_grid", *budgets, "--family", "ADM"): "ADM has no free sizes: take a sweep and a",
        ("dit_grid", *budgets, "--family", "U-ViT"): "--family U-ViT: the networks of dit_grid are",
        ("uvit_grid", *budgets, "--depth", 3): "--depth 3: give a multiple of 2",
        ("dit_grid", *budgets, "--patch", 5): "--patch 5 does not divide the side of 32",
        ("dit_grid", "--budgets", 1e9): "1e+09: ",
        ("dit_grid", *budgets, "--patch", 16, "--study", study): "its patches are 8, 4, 2",
        (
            "dit_grid",
            *budgets,
            "--family",
            "mini-DiT",
            "--study",
            study,
        ): "no mini-DiT is scored, only DiT",
    }
    for words, says in refusals.items():
        assert says in refused(capsys, "isoflop", *words), words
    assert "would be met" in refused(capsys, "isoflop", "dit_grid", "--budgets", 1e9)


def test_a_study_whose_scores_do_not_tell_is_no_centre(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = ROOT / "results" / "published" / "peebles2023.csv"
    words = ("isoflop", "dit_grid", "--budgets", 1e18, "--patch", 2, "--study", table)
    assert "no size is best for a budget" in refused(capsys, *words)
