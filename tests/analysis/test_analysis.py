"""Laws of the table, the statistics and the comparison of studies, on planted and on published numbers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import comparison, fits, laws, tables

PAPER = tables.published()
WIDTHS = {"S": (32, 2), "B": (48, 3), "L": (64, 4), "XL": (96, 5)}


def digits(
    seeds: tuple[int, ...] = (0,), sd: float = 0.03, draw: int = 0, exponent: float = 0.35
) -> pd.DataFrame:
    """A measured study of the grid's shape: 12 models, 3 steps, 5 metrics, the score a power of Gflops and steps."""
    rng, rows = np.random.default_rng(draw), []
    for size, (width, depth) in WIDTHS.items():
        for patch in (8, 4, 2):
            model, params = f"mini-DiT-{size}/{patch}", 12 * depth * width**2
            for seed in seeds:
                for step in (200, 400, 600):
                    gflops = params * (16 / patch) ** 2 / 1e9
                    score = (
                        6
                        * gflops**-exponent
                        * (step / 600) ** -0.6
                        * np.exp(sd * rng.standard_normal())
                    )
                    found = {
                        "fid": score,
                        "sfid": 1.3 * score,
                        "inception_score": 9 - score / 40,
                        "precision": 0.9 - score / 400,
                        "recall": 0.8 - score / 300,
                    }
                    run = {
                        "run": f"{model}-{seed}",
                        "model": model,
                        "size": size,
                        "patch": patch,
                        "seed": seed,
                    }
                    scale = {"params": params, "gflops": gflops, "step": step, "images": 64 * step}
                    rows += [
                        {**run, **scale, "metric": name, "value": value}
                        for name, value in found.items()
                    ]
    return (
        pd.DataFrame(rows)
        .assign(
            study="digits",
            source="measured",
            conditioning="adaLN-Zero",
            data="digits",
            batch_size=64,
            lr=0.003,
            protocol="digits1k_0a1b2c3d",
            n=1000,
            features="digits-cnn-1",
            sampler="ddpm",
            sampling_steps=50,
            guidance=1.0,
            decoder="identity",
            weights="ema",
            reference="digits",
            schema=1,
            labels="",
            checkpoint="",
            warning="",
            commit="",
            device="",
        )
        .reindex(columns=[*tables.TEXT, *tables.NUMBERS])
    )


def saved(table: pd.DataFrame, folder: Path) -> Path:
    table.to_csv(folder / "digits.csv", index=False)
    return folder / "digits.csv"


def problems(table: pd.DataFrame, folder: Path) -> str:
    return " ".join(tables.load(saved(table, folder)).attrs["problems"])


class TestTable:
    def test_published_is_whole_and_sourced(self) -> None:
        assert PAPER.attrs["problems"] == []
        assert PAPER["source"].ne("").all()
        assert len(tables.final(PAPER)) == 12

    def test_a_good_table_comes_back_as_it_was(self, tmp_path: Path) -> None:
        assert problems(digits(), tmp_path) == ""
        pd.testing.assert_frame_equal(
            tables.final(tables.load(tmp_path / "digits.csv")),
            tables.final(digits()),
            check_dtype=False,
        )

    def test_unusable_files_are_named_with_a_remedy(self, tmp_path: Path) -> None:
        for text, says in {
            "": "not a results CSV",
            "a,b\n1,2\n": "lacks the column 'study'",
        }.items():
            (tmp_path / "bad.csv").write_text(text)
            with pytest.raises(ValueError, match=says):
                tables.load(tmp_path / "bad.csv")
        with pytest.raises(ValueError, match=r"none.csv does not exist: .*harness collect"):
            tables.load(tmp_path / "none.csv")

    def test_every_missing_column_is_named_at_once(self, tmp_path: Path) -> None:
        path = saved(digits().rename(columns={"value": "values", "patch": "patch_size"}), tmp_path)
        with pytest.raises(
            ValueError,
            match=r"'patch' \(renamed to 'patch_size'\?\); the column 'value' \(renamed to",
        ):
            tables.load(path)

    def test_a_newer_schema_is_refused_whole_and_dropped_in_part(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="schema 2 is newer than 1"):
            tables.load(saved(digits().assign(schema=2), tmp_path))
        table = digits()
        table.loc[:3, "schema"] = 2
        assert "dropped 4 of 180 rows: written under a schema newer than 1" in problems(
            table, tmp_path
        )

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "oops"])
    def test_what_is_not_a_number_is_dropped_and_said(self, bad: object, tmp_path: Path) -> None:
        table = digits().astype({"value": object})
        table.loc[10, "value"] = bad
        assert "dropped 1 of 180 rows: the value is not a finite number" in problems(
            table, tmp_path
        )
        assert "fid of mini-DiT-S/8 at step 600" in problems(table, tmp_path)

    def test_a_repeated_row_is_kept_once_and_a_contradicted_one_not_at_all(
        self, tmp_path: Path
    ) -> None:
        table = digits()
        assert "1 of 181 rows: the same key and value" in problems(
            pd.concat([table, table[:1]]), tmp_path
        )
        twice = pd.concat([table, table[:1].assign(value=1.0)])
        assert "2 of 181 rows: one key with several values" in problems(twice, tmp_path)

    def test_an_empty_table_says_so(self, tmp_path: Path) -> None:
        assert "has no rows" in problems(digits()[:0], tmp_path)
        with pytest.raises(ValueError, match="no fid of a model with size and patch"):
            tables.grid(digits()[:0])

    def test_the_digest_changes_with_any_value(self) -> None:
        table = digits()
        assert tables.digest(table) == tables.digest(digits())
        table.loc[7, "value"] *= 1.0001
        assert tables.digest(table) != tables.digest(digits())


class TestOneAxis:
    def test_two_protocols_are_an_error_that_lists_them_and_one_can_be_chosen(self) -> None:
        both = pd.concat([digits(), digits().assign(protocol="other")])
        with pytest.raises(
            ValueError, match=r"protocol differs .*digits1k_0a1b2c3d, other.*protocol="
        ):
            tables.grid(both)
        assert len(tables.final(both, protocol="other")) == 12

    def test_a_protocol_that_scored_every_model_wins_over_one_that_did_not(self) -> None:
        table = digits()
        stray = table[table["model"] == "mini-DiT-S/8"].assign(protocol="other")
        assert set(tables.grid(pd.concat([table, stray]))["protocol"]) == {"digits1k_0a1b2c3d"}

    @pytest.mark.parametrize(
        ("field", "value"), [("n", 500), ("features", "inception"), ("reference", "other")]
    )
    def test_the_field_that_differs_is_named(self, field: str, value: object) -> None:
        table = digits()
        table.loc[table["size"] == "S", field] = value
        with pytest.raises(ValueError, match=f"different {field}"):
            tables.grid(table)

    def test_labels_name_the_extractor_unless_it_is_the_papers(self) -> None:
        assert tables.axis_label(tables.grid(PAPER)) == "FID-50K"
        assert tables.axis_label(tables.grid(digits())) == "FID (digits-cnn-1, N = 1,000)"

    def test_a_straggler_is_incomplete_and_does_not_move_the_last_step(self) -> None:
        table = digits()
        rows = tables.grid(table[(table["model"] != "mini-DiT-L/2") | (table["step"] < 600)])
        assert set(rows.loc[~rows["complete"], "model"]) == {"mini-DiT-L/2"}
        assert rows.loc[rows["last"], "step"].unique() == [600]

    def test_training_compute_is_the_papers(self) -> None:
        row = tables.final(PAPER).iloc[-1]
        assert row["compute"] == pytest.approx(118.64 * 256 * 400_000 * 3)


class TestCorrelation:
    def test_published_grid(self) -> None:
        found = fits.correlation(PAPER).set_index("statistic")
        assert found.loc["pearson", "value"] == pytest.approx(-0.9298, abs=5e-5)
        assert found.loc["pearson", ["low", "high"]].tolist() == pytest.approx(
            [-0.985, -0.805], abs=0.003
        )
        assert found.loc["spearman", "value"] == pytest.approx(-0.916, abs=5e-4)
        assert found["n"].tolist() == [12] * 3

    def test_statistics_are_scipys_with_ties_too(self) -> None:
        x, y = np.random.default_rng(0).integers(0, 6, (2, 30)).astype(float)
        assert fits.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
        assert fits.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
        assert fits.kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)

    def test_too_few_models_are_counted_in_the_message(self) -> None:
        with pytest.raises(ValueError, match="needs 3 models at one step, fid has 1"):
            fits.correlation(digits()[:15])


GRID = tables.grid(PAPER).query("last")[[*tables.TEXT, *tables.NUMBERS]]


def planted(draw: int, floor: float = 0.0, sd: float = 0.05) -> pd.DataFrame:
    """The published grid with scores 100 / Gflops^0.4 + floor, and log-normal noise."""
    noise = np.exp(sd * np.random.default_rng(draw).standard_normal(len(GRID)))
    return GRID.assign(value=(100 / GRID["gflops"] ** 0.4 + floor) * noise)


def holds(found: pd.DataFrame, truth: float) -> bool:
    row = found.iloc[0]
    return bool(row["low"] <= truth <= row["high"])


class TestLaws:
    def test_planted_exponents_lie_within_their_intervals(self) -> None:
        draws = [planted(draw) for draw in range(100)]
        straight = [fits.exponents(table) for table in draws]
        assert sum(holds(found[found["exponent of"] == "gflops"], -0.4) for found in straight) >= 90
        powers = [laws.power_law(table) for table in draws]
        assert sum(holds(found[found["parameter"] == "b"], 0.4) for found in powers) >= 90

    def test_planted_floor_lies_within_its_interval(self) -> None:
        floored = [laws.power_law(planted(draw, floor=15), floor=True) for draw in range(100)]
        assert sum(holds(found[found["parameter"] == "b"], 0.4) for found in floored) >= 90
        assert sum(holds(found[found["parameter"] == "c"], 15) for found in floored) >= 90

    def test_planted_two_variable_exponents_lie_within_their_intervals(self) -> None:
        found = [fits.exponents(planted(draw)) for draw in range(100)]
        rows = tables.final(PAPER)
        truth = (
            fits.OLS(np.log10(100 / rows["gflops"] ** 0.4), fits.design(rows, "two variables"))
            .fit()
            .params[1:]
        )
        for term, exponent in zip(fits.LAWS["two variables"], truth, strict=True):
            assert sum(holds(one[one["exponent of"] == term], exponent) for one in found) >= 90

    def test_without_noise_the_power_law_is_exact(self) -> None:
        found = laws.power_law(planted(0, floor=15, sd=0), floor=True).set_index("parameter")
        assert found["value"].to_dict() == pytest.approx({"a": 100, "b": 0.4, "c": 15}, rel=2e-3)
        assert found["identified"].all()

    def test_one_outlier_does_not_carry_the_power_law_away(self) -> None:
        table = planted(0, sd=0.01)
        table.loc[table["model"] == "DiT-XL/2", "value"] *= 3
        robust = laws.power_law(table).set_index("parameter").loc["b", "value"]
        plain = -fits.exponents(table)["value"].iloc[0]
        assert abs(robust - 0.4) < 0.5 * abs(plain - 0.4)

    def test_published_floor_is_said_not_to_be_identified(self) -> None:
        found = laws.power_law(PAPER, floor=True)
        assert not found.set_index("parameter").loc["c", "identified"]
        assert "not identified" in laws.statement(found)

    def test_published_slopes_by_patch(self) -> None:
        slopes = fits.slopes_by_patch(PAPER).set_index("patch")["slope"]
        assert slopes.to_dict() == pytest.approx({8: -0.108, 4: -0.288, 2: -0.427}, abs=5e-4)

    def test_published_predictions_of_the_largest_model(self) -> None:
        found = fits.predict(PAPER, "DiT-XL/2").set_index("law")
        assert found.loc["one variable", "prediction"] == pytest.approx(26.5, abs=0.05)
        assert found.loc["two variables", "error"] == pytest.approx(-0.011, abs=5e-4)
        assert (found["low"] < found["truth"]).all() and (found["truth"] < found["high"]).all()

    def test_published_leave_one_out(self) -> None:
        found = fits.leave_one_out(PAPER)
        mean = found["error"].abs().groupby(found["law"]).mean()
        assert mean.to_dict() == pytest.approx(
            {"one variable": 0.205, "two variables": 0.065}, abs=5e-4
        )

    def test_an_untrained_model_has_a_prediction_and_no_truth(self) -> None:
        small = digits()[lambda table: table["size"] != "XL"]
        target = {"gflops": 0.0354, "params": 552_960, "patch": 2}
        found = fits.predict(small, "mini-DiT-XL/2", target=target)
        assert found["truth"].isna().all() and (found["low"] < found["high"]).all()
        with pytest.raises(ValueError, match="model 'mini-DiT-H/2' is not known"):
            fits.predict(small, "mini-DiT-H/2")

    def test_frontier_is_never_bettered_by_a_cheaper_score(self) -> None:
        rows, found = tables.grid(digits()), laws.frontier(digits())
        for _, point in found.iterrows():
            assert rows.loc[rows["compute"] < point["compute"], "value"].gt(point["value"]).all()

    def test_isoflop_parabola_finds_a_planted_optimum(self) -> None:
        rows = digits(sd=0)
        best = 2e4 * (tables.training_compute(rows) / 10) ** 0.5
        rows["value"] = np.exp(1 + 0.3 * np.log(rows["params"] / best) ** 2)
        dense = pd.concat(
            [rows.assign(step=rows["step"] * k, value=np.nan) for k in (0.01, 0.1, 1, 10, 100)]
        )
        best = 2e4 * (tables.training_compute(dense) / 10) ** 0.5
        dense["value"] = np.exp(1 + 0.3 * np.log(dense["params"] / best) ** 2)
        found = laws.isoflop(dense)
        inside = found[found["inside"].astype(bool)]
        assert len(inside) > 3
        expected = 2e4 * (inside["compute"] / 10) ** 0.5
        assert np.abs(np.log(inside["params"] / expected)).max() < 0.35


class TestComparison:
    def test_seed_spread_recovers_the_planted_noise(self) -> None:
        spread, known_from = comparison.noise(digits(seeds=(0, 1, 2, 3), sd=0.05))
        assert spread == pytest.approx(0.05, rel=0.25)
        assert known_from == "144 runs of 36 models over seeds"

    def test_equal_studies_are_within_noise_and_a_doubled_one_differs(self) -> None:
        a, b = (digits(seeds=(0, 1, 2), draw=draw) for draw in (1, 2))
        assert (comparison.compare(a, b)["verdict"] == "within noise").sum() >= 10
        b["value"] *= 2
        assert (comparison.compare(a, b)["verdict"] == "differs").all()

    def test_without_seeds_the_noise_is_not_known(self) -> None:
        assert set(comparison.compare(digits(), digits(draw=1))["verdict"]) == {"noise not known"}

    def test_scores_of_different_extractors_are_compared_by_rank_alone(self) -> None:
        found = comparison.compare(digits(), PAPER)
        assert "ratio" not in found and len(found) == 12
        assert (
            "differ in features (digits-cnn-1, inception)"
            in comparison.in_words(digits(), PAPER)[-1]
        )

    def test_the_paper_against_its_own_reruns_gives_the_noise(self) -> None:
        assert np.exp(comparison.rerun_differences()).round(3).tolist() == [
            0.93,
            1.008,
            0.999,
            1.09,
            0.905,
            1.164,
        ]
