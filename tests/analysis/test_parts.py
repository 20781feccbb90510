"""The parts of a table that fit one axis, and in which order a page tells them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from studies import PAPER, digits

from analysis.drawing import BY_MODEL, BY_RECIPE, story
from analysis.findings import findings
from analysis.html import titled
from analysis.parts import Part, not_drawn, parts
from analysis.sections import grouped
from analysis.sentences import statistics
from analysis.table import PUBLISHED, load

MEASURED = Path(__file__).parents[2] / "results" / "measured"


def twice(**fields: Any) -> pd.DataFrame:
    """The measured study, and the same with other fields."""
    table = digits()
    return pd.concat([table, table.assign(**fields, run=table["run"] + "-other")])


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"lr": 0.001}, ["lr 0.001", "lr 0.003"]),
        ({"conditioning": "adaLN"}, ["adaLN", "adaLN-Zero"]),
        ({"lr": 0.001, "batch_size": 16}, ["batch 16, lr 0.001", "batch 64, lr 0.003"]),
        ({"protocol": "other", "decoder": "ft-ema"}, ["digits1k_0a1b2c3d", "other"]),
    ],
    ids=lambda value: "-".join(value),
)
def test_what_varies_for_one_model_splits_a_table(
    fields: dict[str, object], names: list[str]
) -> None:
    found = parts(twice(**fields))
    assert [part.name for part in found] == names
    assert [len(part.table) for part in found] == [len(digits())] * 2


def test_one_table_is_one_part_also_where_a_field_differs_between_models() -> None:
    by_size = digits().assign(
        lr=lambda rows: rows["size"].map({"S": 0.003, "B": 0.002}).fillna(0.001)
    )
    for table in (digits(), digits(seeds=(0, 1)), by_size, PAPER, digits()[:0]):
        assert [part.name for part in parts(table)] == [""]


def test_a_value_with_fewer_models_is_in_no_part() -> None:
    some = digits()[lambda rows: rows["size"].eq("S")]
    third = some.assign(lr=0.01, run=some["run"] + "-third")
    found = parts(pd.concat([twice(lr=0.001), third]))
    assert [part.name for part in found] == ["lr 0.001", "lr 0.003"]


def test_figures_of_what_varies_come_first_where_models_do_not() -> None:
    assert story([Part("", digits())]) == BY_MODEL
    one = digits()[lambda rows: rows["model"].eq("mini-DiT-S/4")]
    assert story([Part("", one)]) == story(parts(twice(lr=0.001))) == BY_RECIPE


def test_findings_state_the_best_model_and_the_spread_of_its_seeds() -> None:
    (text,) = found(Part("", digits(seeds=(0, 1, 2))))
    assert "falls with compute: Pearson \N{MINUS SIGN}0.9" in text
    assert "Best of 12 at step 600: mini-DiT-XL/2, " in text and "(3 seeds)" in text
    (one,) = found(Part("lr 0.1", digits()[:3]))
    assert one == ""


def found(part: Part) -> list[str]:
    """The findings of a table of one part, without its statistics."""
    return findings([part], part.table, pd.DataFrame({name: [] for name in NUMBERS}, dtype=str))


NUMBERS = ("part", "statistic", "family", "estimate", "interval", "note")


def test_findings_of_runs_with_steps_of_their_own_state_the_best_and_how_sizes_grow() -> None:
    table = load(MEASURED / "digits_laws.csv")
    joint = ["Joint law of size, tokens and images"]
    numbers = statistics(table[table["metric"].ne("val_loss")], sections=joint).assign(part="")
    (text,) = findings([Part("", table)], table, numbers)
    assert "of 7 models, each at the end of its longest run: digit-DiT-w48-d2-h8/2" in text
    assert "grows as compute^0.5" in text and "the gain from size differs by images" in text


def test_findings_of_a_sweep_of_rates_state_the_law_of_each_parametrization() -> None:
    table = load(MEASURED / "digits_mup.csv")
    *_, text = findings([Part("", table)], table, statistics(table, sections=[]).assign(part=""))
    assert text.startswith("Best learning rate by Validation loss: standard: falls as parameters^")
    assert "parametrization mup: is not shown to change" in text


def test_one_reason_is_stated_once() -> None:
    lines = ["A: no log.", "B: no samples.", "C: no log.", "A: no log."]
    assert grouped(lines) == ["A, C: no log.", "B: no samples."]


def test_a_figure_is_named_by_its_file() -> None:
    assert titled("figure_08") == "Figure 8 of the paper"
    assert titled("figure_sweeps") == "Figure of sweeps"
    assert titled("table_02_lr-0.1") == "Table 2 of the paper, lr 0.1"


def test_models_that_share_no_axis_are_drawn_on_that_of_most() -> None:
    table = digits()
    few = table["model"].isin(table["model"].unique()[:2])
    guided = table[few].assign(model=lambda rows: rows["model"] + "-b", data="b", protocol="guided")
    both = pd.concat([table.assign(data="a"), guided])
    both = both[both["data"].eq("b") | ~both["model"].eq("mini-DiT-S/8")]
    found = parts(both)
    assert [part.name for part in found] == ["a, digits1k_0a1b2c3d"]
    assert not_drawn(both, found) == ["b, guided: fewer models (2) than what is drawn."]


def test_the_published_guided_models_at_512_are_drawn_and_the_others_named() -> None:
    table = load(PUBLISHED.with_name("uvit2023.csv"))
    found = parts(table)
    assert [part.name for part in found] == ["imagenet512, fid50k_g1.7"]
    reasons = {
        axis: why for axis, _, why in (text.partition(": ") for text in not_drawn(table, found))
    }
    assert "decoder (original, ft-EMA)" in reasons["imagenet256, fid50k_g1.4"]
    assert "not read in its authors' text" in reasons["imagenet256, fid50k"]
    assert reasons["imagenet64, fid50k_as_published"].endswith("of its 2 scores 2 without Gflops.")
