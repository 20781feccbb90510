"""The verbs report and predict on tables that collect could have written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT, finished, refused, run_verb, started, tiny_sweep, written
from studies import digits

from analysis.table import load
from harness.cli.report import summary


def study(folder: Path, models: int) -> tuple[Path, Path]:
    """A sweep's file, and a folder of results with its table under the sweep's own name."""
    path = written(dataclasses.replace(tiny_sweep(), name="own"), folder)
    table = digits()[lambda rows: rows["metric"].eq("fid") & rows["step"].eq(600)]
    table[:models].to_csv(folder / "own.csv", index=False)
    return path, folder


@pytest.mark.usefixtures("figure_8_alone")
@pytest.mark.parametrize("models", [0, 2])
def test_a_study_of_few_models_has_a_page_and_no_error(
    models: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, results = study(tmp_path, models)
    words = ("--results", results, "--store", tmp_path / "store")
    status, out, err = run_verb(capsys, "report", sweep, *words)
    page = results / "report" / "own" / "index.html"
    assert (status, err) == (0, "") and out.endswith(f"the report: {page}\n")
    assert ("no fid of a model" if models == 0 else "a correlation needs 3 models") in out
    assert page.exists()


def test_correlations_of_several_families_are_named() -> None:
    text = summary(load(ROOT / "results/measured/compare_digits.csv")).split("\n")[-1]
    assert text.startswith("digit-U-Net: Pearson") and "; digit-DiT: Pearson" in text
    assert summary(load(ROOT / "results/measured/digits.csv")).split("\n")[-1].startswith("Pearson")


def test_scores_of_a_sweep_have_a_row_for_each_recipe() -> None:
    rates = load(ROOT / "results/measured/digits_mup.csv")
    text = summary(rates)
    assert text.startswith("Validation loss by optimizer step")
    for name in ("lr 0.0078125 ", "lr 0.0078125, parametrization mup "):
        assert f"digit-DiT-w64-d2-h16/4, {name}" in text
    assert text.count("digit-DiT-w") == rates["run"].nunique()
    assert "keep the rows of one lr" in text.split("\n")[-1]  # no one correlation


def test_a_table_that_cannot_be_used_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, results = study(tmp_path, 12)
    unknown = refused(capsys, "predict", sweep, "--results", results, "--model", "DiT-H/2")
    assert "model 'DiT-H/2' is not known: name one of mini-DiT-S/8" in unknown
    pd.DataFrame({"a": [1]}).to_csv(results / "own.csv")
    assert "own.csv lacks the column 'study'" in refused(
        capsys, "report", sweep, "--results", results, "--store", tmp_path / "store"
    )


def test_a_model_not_yet_trained_is_predicted_from_its_scale(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    sweep, results = study(tmp_path, 12)
    words = ("predict", sweep, "--results", results)
    refusals = {
        ("--patch", 2): "--patch without --gflops",
        ("--gflops", 0): "--gflops 0: give numbers above 0",
        (): "no model: give --model, or --gflops",
        ("--model", "DiT-XL/2"): "DiT-XL/2 is a model of imagenet256",
        ("--gflops", 99): "is beyond the fitted models in gflops 99",
    }
    for given, says in refusals.items():
        assert says in refused(capsys, *words, *given)
    status, out, _ = run_verb(capsys, *words, "--gflops", 99, "--beyond", "--model", "H")
    assert status == 0
    assert out.startswith(
        "FID (digits-cnn-1, N = 1,000) of H at step 600, protocol digits1k_0a1b2c3d, from 12 other"
    )


def test_a_terminal_without_our_symbols_gets_question_marks() -> None:
    words = ("predict", "peebles2023", "--model", "DiT-XL/2")
    status, out, err = finished(started(*words, PYTHONIOENCODING="ascii"))
    assert (status, err) == (0, "") and "13.60 ? 51.54" in out


def test_a_study_without_a_common_axis_states_the_scores_of_what_is_drawn() -> None:
    text = summary(load(ROOT / "results/published/uvit2023.csv"))
    assert text.startswith("imagenet512, fid50k_g1.7: FID") and "U-ViT-H/4" in text
