"""The verbs laws, forecast, seeds, next and best on tables that collect could have written."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from helpers import refused, run_verb, scored, tiny_protocol, tiny_run, tiny_sweep, written
from studies import PAPER, digits, saved

from analysis.table import load
from harness.cli.forecast import score
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

XL = "DiT-XL/2"
MEASURED = Path(__file__).parents[2] / "results" / "measured"


@pytest.fixture
def paper(tmp_path: Path) -> tuple[object, ...]:
    """The published twelve as the table of sweeps/dit_grid.py, as words for a command line."""
    table = PAPER[PAPER["protocol"].eq("fid50k")].assign(study="dit_grid")
    table.to_csv(tmp_path / "dit_grid.csv", index=False)
    return ("--results", tmp_path, "--store", tmp_path / "store")


def loaded(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    status, out, err = run_verb(capsys, *words, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_laws_states_what_is_not_identified_and_what_is_missing(
    capsys: pytest.CaptureFixture[str], paper: tuple[object, ...]
) -> None:
    status, out, err = run_verb(capsys, "laws", "dit_grid", *paper)
    assert (status, err) == (0, "")
    assert "best size for a budget" in out and "score more steps of each run" in out
    assert "FID by loss: no loss is scored" in out
    one = ("laws", "dit_grid", "--results", paper[1])
    table = PAPER[PAPER["model"].eq(XL) & PAPER["protocol"].eq("fid50k")]
    table.to_csv(Path(str(paper[1])) / "dit_grid.csv", index=False)
    assert "needs several sizes, there is one" in refused(capsys, *one)


def test_laws_of_a_sweep_of_rates_are_the_best_of_each_size_and_how_they_scale(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, out, err = run_verb(capsys, "laws", MEASURED / "digits_mup.csv")
    assert (status, err) == (0, "")
    for setting in ("standard", "parametrization mup"):
        assert f"Validation loss, {setting}: exponent of width in the best learning rate" in out
    assert "(yin2025, video)" in out and "Joint law: fid: no fid" in out


@pytest.mark.usefixtures("figure_8_alone")
def test_a_forecast_is_written_once_and_scored_once_by_the_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = digits(seeds=(0, 1)).query("metric == 'fid'")
    largest = table["model"].eq("mini-DiT-XL/2")
    path = saved(table[~largest], tmp_path)
    scale = table[largest].iloc[0]
    model = ("--model", "mini-DiT-XL/2", "--gflops", scale["gflops"], "--params", scale["params"])
    words = ("forecast", path, *model, "--patch", 2, "--results", tmp_path)
    made = loaded(capsys, *words)
    file = tmp_path / "forecasts" / "digits_mini-DiT-XL-2_600_fid.json"
    assert json.loads(file.read_text()) == made and made["outcome"] is None
    assert "a forecast is made once" in refused(capsys, *words)

    assert score(tmp_path, "digits", load(path)) == [made]  # pending
    two = table[(largest | table["model"].eq("mini-DiT-S/8")) & table["step"].eq(600)]
    saved(two, tmp_path)
    report = ("report", path, "--results", tmp_path, "--store", tmp_path / "store")
    assert run_verb(capsys, *report)[0] == 0
    page = (tmp_path / "report" / "digits" / "index.html").read_text()
    assert "1 of 1 scored forecasts hold the score" in page
    found = json.loads(file.read_text())
    truth = table[largest & table["step"].eq(600)]["value"].mean()
    assert found["outcome"]["value"] == pytest.approx(truth)
    later = table.assign(value=2 * table["value"])
    assert score(tmp_path, "digits", later) == [found]  # a later table does not change it


def test_a_model_of_the_sweep_is_forecast_by_its_name(
    capsys: pytest.CaptureFixture[str], paper: tuple[object, ...], tmp_path: Path
) -> None:
    table = PAPER[PAPER["protocol"].eq("fid50k") & PAPER["model"].ne(XL)]
    table.assign(study="dit_grid").to_csv(tmp_path / "dit_grid.csv", index=False)
    made = loaded(capsys, "forecast", "dit_grid", "--model", XL, "--results", tmp_path)
    low, high = float(str(made["low"])), float(str(made["high"]))
    assert low < 19.47 < high and made["models"] == 11
    assert (tmp_path / "forecasts" / "dit_grid_DiT-XL-2_400000_fid.json").exists()


def test_what_the_store_has_scored_already_is_no_forecast(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Neither where the table lacks it, nor where the record is older than the forecast."""
    models = [f"mini-DiT-{size}/{patch}" for size in "SBL" for patch in (8, 4)]
    runs, protocol = {model: tiny_run(model=model) for model in models}, tiny_protocol()
    sweep = written(tiny_sweep(runs=tuple(runs.values()), steps=(600,)), tmp_path)
    table = digits().query("metric == 'fid' and step == 600").set_index("model").loc[models]
    table = table.assign(study="tiny", protocol=protocol.id, run=[runs[m].id for m in models])
    (*known, last), path = models, tmp_path / "tiny.csv"
    table.loc[known].reset_index().to_csv(path, index=False)
    store = Store(tmp_path / "store")
    words = ("forecast", sweep, "--model", last, "--results", tmp_path, "--store", store.root)
    scored(store, runs[last], 600, 5.0, protocol)
    assert "is scored at step 600 in" in refused(capsys, *words)
    record = store.record(runs[last], 600, protocol)
    record.rename(tmp_path / "hidden")
    made = loaded(capsys, *words)
    (tmp_path / "hidden").rename(record)
    table.reset_index().to_csv(path, index=False)
    (late,) = score(tmp_path, "tiny", load(path), store)
    assert late["outcome"]["older"] and late["digest"] == made["digest"]


def test_each_protocol_of_a_score_has_a_forecast_of_its_own(
    capsys: pytest.CaptureFixture[str], paper: tuple[object, ...], tmp_path: Path
) -> None:
    table = PAPER[PAPER["protocol"].eq("fid50k") & PAPER["model"].ne(XL)].assign(study="dit_grid")
    more = table.assign(protocol="fid10k", n=10_000, value=table["value"] + 2)
    pd.concat([table, more]).to_csv(tmp_path / "dit_grid.csv", index=False)
    words = ("forecast", "dit_grid", "--model", XL, *paper)
    first, second = (loaded(capsys, *words, "--protocol", f"fid{n}k") for n in (50, 10))
    assert first["protocol"] == "fid50k" and second["protocol"] == "fid10k"
    assert "a forecast is made once" in refused(capsys, *words, "--protocol", "fid10k")
    assert len([*(tmp_path / "forecasts").iterdir()]) == 2


def test_seeds_are_priced_by_the_plan_and_name_their_prior(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = loaded(capsys, "seeds", "dit_grid", "--results", tmp_path, "--store", tmp_path)
    assert "published prior" in found["noise"]["origin"]  # type: ignore[index]
    rows = found["rows"]
    assert isinstance(rows, list)
    per_seed = [row["hours"] / row["seeds"] for row in rows]
    assert max(per_seed) == pytest.approx(min(per_seed)) and min(per_seed) > 100
    told = [row["difference"] for row in rows]
    assert told == sorted(told, reverse=True)
    wrong = refused(capsys, "seeds", "dit_grid", "--difference", 0, "--power", 2, "--cells", 0)
    assert "--difference 0, --power 2, --cells 0" in wrong


def test_the_next_run_is_a_sweep_that_plans(
    capsys: pytest.CaptureFixture[str], paper: tuple[object, ...], tmp_path: Path
) -> None:
    out = tmp_path / "next.py"
    words = ("next", "dit_grid", "--gpu-hours", 500, "--for", XL, "--out", out, *paper)
    found = loaded(capsys, *words)
    sweep, first = load_sweep(str(out)), load_sweep("dit_grid")
    assert [run.model for run in sweep.runs] == [found["chosen"]]
    assert sweep.runs[0].seed == {"seed": 1, "size": 0}[str(found["kind"])]
    assert sweep.protocols == first.protocols
    assert "the cheapest takes" in refused(
        capsys, "next", "dit_grid", "--gpu-hours", 0.001, "--for", XL, *paper
    )
    assert "no model of this study's family" in refused(
        capsys, "next", "dit_grid", "--gpu-hours", 5, "--for", "ADM", *paper
    )


def test_best_refuses_what_it_cannot_know(
    capsys: pytest.CaptureFixture[str], paper: tuple[object, ...]
) -> None:
    refusals = {
        ("dit_grid", "--gpu-hours", 0, *paper): "--gpu-hours 0: give hours above 0",
        ("dit_grid", "--gpu-hours", 9, *paper): "score more steps of each run",
        ("digits", "--gpu-hours", 9, *paper): "run harness bench",
        ("peebles2023", "--gpu-hours", 9, *paper): "is a table without a sweep",
    }
    for words, says in refusals.items():
        assert says in refused(capsys, "best", *words)
