"""The published registry: every value with its source, and nothing uncertain in a law."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.grid import AVERAGED, grid
from analysis.left_out import left_out
from analysis.sentences import statistics
from analysis.table import PUBLISHED, RECIPE, UNCERTAIN, TableError, load, uncertain

STUDIES = "sit2024 uvit2023 mdt2023 diffit2024 edm2 lightningdit2025 repa2024".split()
EVIDENCE = {"authors", *UNCERTAIN}


@pytest.mark.parametrize("study", STUDIES)
def test_every_value_has_source_evidence_and_protocol_and_is_usable(study: str) -> None:
    path = PUBLISHED.with_name(f"{study}.csv")
    raw, table = pd.read_csv(path), load(path)
    assert table.attrs["problems"] == [] and len(table) == len(raw) > 0
    assert set(table["study"]) == {study} and set(table["evidence"]) <= EVIDENCE
    for column in ("source", "model", "family", "data", "protocol", "features"):
        assert table[column].ne("").all(), column
    counted = raw.loc[raw["gflops"].notna(), "counted"]
    assert counted.notna().all(), "a Gflop is named with its convention"
    batches = raw[raw["step"].notna() & raw["batch_size"].notna()]
    assert batches["images"].eq(batches["step"] * batches["batch_size"]).all()


def test_the_papers_table_marks_what_it_quotes() -> None:
    raw = pd.read_csv(PUBLISHED)
    quoted = raw["source"].str.startswith("quoted") | (
        raw["source"].str.contains("Table [23]") & ~raw["model"].str.startswith("DiT", na=False)
    )
    assert raw["evidence"].eq("second-hand").equals(quoted) and quoted.sum() > 80
    assert raw.loc[raw["gflops"].notna(), "counted"].notna().all()


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_second_hand_or_recalled_is_on_no_axis(study: str) -> None:
    table = load(PUBLISHED.with_name(f"{study}.csv"))
    for protocol in table["protocol"].unique():
        try:
            shown = grid(table, "fid", protocol)
        except TableError:
            continue
        assert not uncertain(shown).any()


def test_what_is_left_out_for_its_evidence_is_counted() -> None:
    table = load(PUBLISHED.with_name("sit2024.csv"))
    small = table["model"].eq("SiT-S/2") & table["protocol"].eq("fid50k_sde")
    doubted = table.assign(evidence=table["evidence"].where(~small, "recalled"))
    assert "SiT-S/2" not in set(grid(doubted, "fid", "fid50k_sde")["model"])
    named = left_out(doubted, "fid", "fid50k_sde")
    reason = named["reason"].eq("not read in its authors' text")
    assert named.loc[reason, ["model", "scores"]].to_numpy().tolist() == [["SiT-S/2", 1]]


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_has_statistics_or_reasons(study: str) -> None:
    table, reasons = load(PUBLISHED.with_name(f"{study}.csv")), list[str]()
    rows = statistics(table, reasons, ["Noise of one run", "Exponents"])
    assert len(rows) or reasons


def test_guided_and_unguided_never_share_a_protocol() -> None:
    table = pd.concat([load(PUBLISHED.with_name(f"{study}.csv")) for study in STUDIES])
    scales = table.groupby(["study", "data", "protocol"])["guidance"].nunique(dropna=False)
    assert scales.max() == 1, scales[scales > 1]
    guided = table["guidance"].gt(1)
    assert table.loc[guided, "protocol"].str.contains("_g").all()
    assert not table.loc[table["guidance"].eq(1), "protocol"].str.contains("_g").any()


@pytest.mark.parametrize("study", STUDIES)
def test_no_quantity_is_there_twice_as_if_by_two_seeds(study: str) -> None:
    """But for a second source that prints another value."""
    table = load(PUBLISHED.with_name(f"{study}.csv"))
    key = [*AVERAGED, "data", *RECIPE]
    assert not table[table["warning"].eq("")].duplicated(key).any()


def test_sits_four_models_are_on_one_axis_at_400k() -> None:
    rows = grid(load(PUBLISHED.with_name("sit2024.csv")), "fid", "fid50k_sde")
    last = rows[rows["step"].eq(400_000)].groupby("model")["value"].first()
    assert last.to_dict() == {
        "SiT-S/2": 57.64,
        "SiT-B/2": 33.02,
        "SiT-L/2": 18.79,
        "SiT-XL/2": 17.19,
    }
