"""The table: what is read, what is dropped and why, and which rows share an axis."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from studies import PAPER, digits, saved, steps_of

from analysis import captions
from analysis.grid import axis_label, final, grid, mixing
from analysis.left_out import left_out
from analysis.log import LOG_NUMBER_COLUMNS, LOG_TEXT_COLUMNS, load_log
from analysis.loss import smoothed
from analysis.models import with_family
from analysis.table import METRICS, NUMBER_COLUMNS, TEXT_COLUMNS, TableError, digest, load
from harness.metrics import value_names
from harness.study import columns


def problems(table: pd.DataFrame, folder: Path) -> str:
    return " ".join(load(saved(table, folder)).attrs["problems"])


def test_published_is_whole_and_sourced() -> None:
    assert PAPER.attrs["problems"] == []
    assert PAPER["source"].ne("").all()
    assert len(final(PAPER)) == 12


def test_a_good_table_comes_back_as_it_was(tmp_path: Path) -> None:
    assert problems(digits(), tmp_path) == ""
    pd.testing.assert_frame_equal(
        final(load(tmp_path / "digits.csv")),
        final(digits()),
        check_dtype=False,
    )


def test_unusable_files_are_named_with_a_remedy(tmp_path: Path) -> None:
    for text, says in {
        "": "not a results CSV",
        "a,b\n1,2\n": "lacks the column 'study'",
    }.items():
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(TableError, match=says):
            load(tmp_path / "bad.csv")
    with pytest.raises(TableError, match=r"none.csv does not exist: .*harness collect"):
        load(tmp_path / "none.csv")


def test_every_missing_column_is_named_at_once(tmp_path: Path) -> None:
    path = saved(digits().rename(columns={"value": "values", "patch": "patch_size"}), tmp_path)
    with pytest.raises(
        TableError,
        match=r"'patch' \(renamed to 'patch_size'\?\); the column 'value' \(renamed to",
    ):
        load(path)


def test_a_newer_schema_is_refused_whole_and_dropped_in_part(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="schema 2 is newer than 1"):
        load(saved(digits().assign(schema=2), tmp_path))
    table = digits()
    table.loc[:3, "schema"] = 2
    assert "dropped 4 of 180 rows: written under a schema newer than 1" in problems(table, tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "oops"])
def test_a_value_that_is_no_number_is_dropped_and_reported(bad: object, tmp_path: Path) -> None:
    table = digits().astype({"value": object})
    table.loc[10, "value"] = bad
    assert "dropped 1 of 180 rows: the value is not a finite number" in problems(table, tmp_path)
    assert "fid of mini-DiT-S/8 at step 600" in problems(table, tmp_path)


def test_a_repeated_row_is_kept_once_and_a_contradicted_one_not_at_all(tmp_path: Path) -> None:
    table = digits()
    assert "1 of 181 rows: the same key and value" in problems(
        pd.concat([table, table[:1]]), tmp_path
    )
    twice = pd.concat([table, table[:1].assign(value=1.0)])
    assert "2 of 181 rows: one key with several values" in problems(twice, tmp_path)


def test_an_empty_table_says_so(tmp_path: Path) -> None:
    assert "has no rows" in problems(digits()[:0], tmp_path)
    with pytest.raises(TableError, match="no fid of a model with Gflops and a step"):
        grid(digits()[:0])


def test_the_digest_changes_with_any_value() -> None:
    table = digits()
    assert digest(table) == digest(digits())
    table.loc[7, "value"] *= 1.0001
    assert digest(table) != digest(digits())


def test_two_protocols_are_an_error_that_lists_them_and_one_can_be_chosen() -> None:
    both = pd.concat([digits(), digits().assign(protocol="other")])
    with pytest.raises(TableError, match=r"protocol differs .*digits1k_0a1b2c3d, other.*protocol="):
        grid(both)
    assert len(final(both, protocol="other")) == 12


def test_a_protocol_that_scored_every_model_wins_over_one_that_did_not() -> None:
    table = digits()
    stray = table[table["model"] == "mini-DiT-S/8"].assign(protocol="other")
    assert set(grid(pd.concat([table, stray]))["protocol"]) == {"digits1k_0a1b2c3d"}


@pytest.mark.parametrize(
    ("field", "value"), [("n", 500), ("features", "inception"), ("reference", "other")]
)
def test_the_field_that_differs_is_named(field: str, value: object) -> None:
    table = digits()
    table.loc[table["size"] == "S", field] = value
    with pytest.raises(TableError, match=f"different {field}"):
        grid(table)


def test_of_several_full_protocols_the_one_of_most_images_is_the_main_one() -> None:
    table = digits()
    beside = table.assign(n=500, protocol="figure_10", sampling_steps=250)
    assert set(grid(pd.concat([table, beside]))["protocol"]) == {"digits1k_0a1b2c3d"}
    guided = table.assign(guidance=1.5, protocol="guided")
    assert set(grid(pd.concat([table, guided]))["protocol"]) == {"digits1k_0a1b2c3d"}


@pytest.mark.parametrize(
    ("field", "value"), [("sampling_steps", 10), ("guidance", 1.5), ("weights", "raw")]
)
def test_rows_of_one_protocol_that_were_scored_differently_are_refused(
    field: str, value: object
) -> None:
    table = digits()
    table.loc[table["size"] == "S", field] = value
    with pytest.raises(TableError, match=f"different {field}"):
        grid(table)


def test_every_score_is_on_the_axis_or_left_out_with_a_reason() -> None:
    for metric in ("fid", "sfid", "recall"):
        of_metric = (PAPER["metric"] == metric).sum()
        rows = left_out(PAPER, metric)
        try:
            shown = len(grid(PAPER, metric))
        except TableError:
            shown = 0
        assert shown + rows["scores"].sum() == of_metric
        assert rows["reason"].ne("").all()
    found = left_out(PAPER)
    assert found["model"].str.startswith("ADM").any()
    quoted = "not read in its authors' text"
    assert {quoted, "protocol is not fid50k"} <= set(found["reason"])
    own = left_out(PAPER.assign(evidence="authors"))
    assert "no step" in set(own["reason"])


def test_a_model_without_parameters_is_named_where_they_are_needed() -> None:
    table = digits()
    table.loc[table["model"] == "mini-DiT-XL/2", "params"] = np.nan
    assert len(final(table)) == 12 and left_out(table).empty
    assert set(left_out(table, needs=["params"])["model"]) == {"mini-DiT-XL/2"}


def test_seeds_whose_gflops_differ_by_rounding_are_one_model() -> None:
    table = digits(seeds=(0, 1))
    table.loc[table["seed"] == 1, "gflops"] *= 1 + 1e-7
    rows = final(table)
    assert len(rows) == 12 and (rows["seeds"] == 2).all()
    table.loc[table["seed"] == 1, "gflops"] *= 1.1
    with pytest.raises(TableError, match="one mean cannot hold different gflops"):
        final(table)


def test_an_average_that_would_mix_learning_rates_is_named() -> None:
    table = digits(seeds=(0, 1))
    assert mixing(table) == []
    table.loc[table["seed"] == 1, "lr"] = 0.001
    assert mixing(table) == ["lr (0.003, 0.001)"]
    assert mixing(table, ["model", "metric", "step", "lr"]) == []


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("DiT-XL/2", "DiT"),
        ("mini-DiT-S/8", "mini-DiT"),
        ("U-ViT-L/2-deep", "U-ViT"),
        ("ADM-G, ADM-U", "ADM"),
        ("LDM-4-G", "LDM"),
        ("U-Net-64", "U-Net"),
        ("U-Net", "U-Net"),
    ],
)
def test_a_family_is_the_name_without_the_member(model: str, family: str) -> None:
    assert with_family(digits()[:1].assign(model=model))["family"].tolist() == [family]


def test_columns_family_and_tokens_are_read_where_given(tmp_path: Path) -> None:
    table = digits().assign(family="ours", tokens=77.0)
    table.loc[0, ["family", "tokens"]] = [None, np.nan]
    rows = with_family(load(saved(table, tmp_path)))
    assert rows["family"].tolist()[:2] == ["mini-DiT", "ours"]
    assert rows["tokens"].tolist()[:2] == [16.0, 77.0]


def test_labels_name_the_extractor_unless_it_is_the_papers() -> None:
    assert axis_label(grid(PAPER)) == "FID-50K"
    assert axis_label(grid(digits())) == "FID (digits-cnn-1, N = 1,000)"
    dino = digits().assign(features="dinov2-vitl14")
    assert axis_label(grid(dino)) == "FD-DINOv2 (N = 1,000)"


def test_a_straggler_is_incomplete_and_does_not_move_the_last_step() -> None:
    table = digits()
    rows = grid(table[(table["model"] != "mini-DiT-L/2") | (table["step"] < 600)])
    assert set(rows.loc[~rows["complete"], "model"]) == {"mini-DiT-L/2"}
    assert rows.loc[rows["last"], "step"].unique() == [600]


def test_training_compute_is_the_papers() -> None:
    row = final(PAPER).iloc[-1]
    assert row["compute"] == pytest.approx(118.64 * 256 * 400_000 * 3)


def readme_columns(heading: str) -> list[str]:
    """The first column of the table under a heading of results/README.md."""
    section = (ROOT / "results" / "README.md").read_text().split(f"## {heading}\n")[1]
    rows = re.findall(r"^\| ([a-z_]+) \|", section.split("\n## ")[0], re.MULTILINE)
    return rows[1:]


def test_collect_the_analysis_and_the_readme_have_the_same_columns() -> None:
    assert readme_columns("`<study>.csv`") == columns.COLUMNS
    assert sorted(columns.COLUMNS) == sorted([*TEXT_COLUMNS, *NUMBER_COLUMNS])
    assert readme_columns("`<study>_log.csv`") == columns.LOG_COLUMNS
    assert {*LOG_TEXT_COLUMNS, *LOG_NUMBER_COLUMNS} <= {*columns.LOG_COLUMNS}


def test_every_metric_has_a_name_and_the_readme_lists_it() -> None:
    readme = (ROOT / "results" / "README.md").read_text()
    listed = re.search(r"^\| metric \| name \| (.*) \|$", readme, re.MULTILINE)
    assert listed is not None
    assert {*METRICS} <= {*value_names()} == {*re.findall(r"\w+", listed[1])}


@pytest.mark.parametrize(("column", "value"), [("gflops", -1.0), ("params", 0), ("batch_size", 0)])
def test_a_score_with_a_scale_of_0_or_below_is_dropped(
    column: str, value: object, tmp_path: Path
) -> None:
    table = digits().astype({column: object})
    table.loc[10, column] = value
    assert "dropped 1 of 180 rows: one of patch, params, " in problems(table, tmp_path)


@pytest.mark.parametrize(("column", "word"), [("step", ""), ("gflops", "?")])
def test_a_score_without_a_place_on_an_axis_is_named(
    column: str, word: str, tmp_path: Path
) -> None:
    table = digits().astype({column: object})
    table.loc[10, column] = word
    read = load(saved(table, tmp_path))
    assert len(grid(read)) == 35 and read.attrs["problems"] == []
    assert set(left_out(read)["reason"]) == {f"no {column}", "no score at step 600"}
    assert set(left_out(read)["model"]) == {"mini-DiT-S/8"}


def test_an_infinite_column_is_dropped(tmp_path: Path) -> None:
    table = digits()
    table.loc[10, "lr"] = np.inf
    assert "dropped 1 of 180 rows: a column is infinite or beyond 1e+100" in problems(
        table, tmp_path
    )


@pytest.mark.parametrize("damage", [b"1,2,3,4" * 50, b"\xff\xfe", b'"open'])
def test_a_damaged_line_in_the_middle_is_no_traceback(damage: bytes, tmp_path: Path) -> None:
    lines = saved(digits(), tmp_path).read_bytes().splitlines()
    path = tmp_path / "damaged.csv"
    path.write_bytes(b"\n".join([*lines[:90], damage, *lines[90:]]))
    with pytest.raises(TableError, match=r"damaged.csv is not a results CSV"):
        load(path)


def test_rows_of_a_log_without_a_finite_loss_are_dropped_and_reported(tmp_path: Path) -> None:
    log = steps_of(20).assign(conditioning="", batch_size=64, gflops=1.0)
    log = log.astype({"loss": object})
    log.loc[[3, 5, 7], "loss"] = ["oops", np.inf, np.nan]
    log.to_csv(tmp_path / "log.csv", index=False)
    read = load_log(tmp_path / "log.csv")
    assert len(read) == len(log) - 3 and read["loss"].dtype == np.float32
    assert "dropped 3 rows of" in read.attrs["problems"][0]


def test_an_axis_of_an_unnamed_extractor_says_so() -> None:
    table = digits().assign(features="")
    assert axis_label(grid(table)) == "FID (unknown extractor, N = 1,000)"


def test_the_analysis_imports_no_harness() -> None:
    for path in (ROOT / "analysis").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) harness", path.read_text(), re.MULTILINE), path


def test_runs_that_differ_in_a_field_beyond_the_usual_columns_are_never_averaged(
    tmp_path: Path,
) -> None:
    """A table has such a field only where its sweep varies it."""
    table = digits().drop(columns="others")
    both = pd.concat([table.assign(objective=""), table.assign(objective="flow")])
    path = saved(both.assign(ema_decay=0.99), tmp_path)
    found = load(path)
    assert set(found["others"]) == {"ema_decay 0.99", "ema_decay 0.99, objective flow"}
    assert len(found) == 2 * len(table), "no row is a repetition"
    with pytest.raises(TableError, match="others"):
        final(found)
    assert any(line.startswith("others (") for line in mixing(found))
    assert set(load(saved(table, tmp_path))["others"]) == {""}


def test_runs_with_steps_of_their_own_are_whole_and_meet_at_no_step() -> None:
    table = digits(seeds=(0, 1)).query("metric == 'fid'")
    place = pd.factorize(table["model"])[0]
    own = table.assign(step=table["step"] + place, images=table["images"] + 64 * place)
    rows = grid(own)
    assert rows["complete"].all() and rows.loc[rows["last"], "model"].nunique() == 1
    assert "12 models, each at steps of its own" in captions.situation(own)
    late = table[~(table["model"].eq("mini-DiT-S/8") & table["step"].gt(200))]
    behind = grid(late)
    assert set(behind.loc[~behind["complete"], "model"]) == {"mini-DiT-S/8"}


def test_a_schedule_or_an_average_is_another_recipe_and_another_curve(tmp_path: Path) -> None:
    fields = {"schedule": "warmup-100", "parametrization": "mup", "ema": "power-0.1"}
    for name, value in fields.items():
        table = digits().drop(columns="others")
        both = [table, table.assign(**{name: value}, run=table["run"] + "2")]
        pd.concat(both).to_csv(tmp_path / "scores.csv", index=False)
        assert set(load(tmp_path / "scores.csv")["others"]) == {"", f"{name} {value}"}
        both = [steps_of(20), steps_of(20).assign(**{name: value}, loss=lambda x: 2 * x["loss"])]
        pd.concat(both).assign(precision="fp32").to_csv(tmp_path / "log.csv", index=False)
        read = load_log(tmp_path / "log.csv")
        assert set(read["others"]) == {"", f"{name} {value}"} and "precision" not in read
        late = smoothed(read).groupby("others")["loss"].max()
        assert late[f"{name} {value}"] == pytest.approx(2 * late[""], rel=1e-3)
