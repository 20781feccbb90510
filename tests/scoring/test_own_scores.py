"""An extractor and a metric of a user's own, as their pages of documentation have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ROOT, run_verb
from torch import Tensor

from harness.base.files import sha256
from harness.base.tensors import read_metadata
from harness.scoring.arrays import write_array
from harness.spec import own_rows


@pytest.fixture(autouse=True)
def tables_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = {field: dict(table) for field, table in own_rows.TABLES.items()}
    yield
    own_rows.restore(before)
    own_rows.LOADED.clear()


def write_blocks(page: str) -> None:
    """Every python block that begins with a file's name, as that file."""
    text = (ROOT / "docs" / page).read_text()
    for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL):
        Path(name).write_text(code)


def scored(page: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The record of the page's sweep."""
    write_blocks(page)
    assert run_verb(capsys, "run", "mine.py", "--store", "store")[0] == 0
    (record,) = Path("store").glob("runs/*/evals/*/*.json")
    found: dict[str, Any] = json.loads(record.read_text())
    assert found["versions"]["my_rows.py"] == own_rows.LOADED["my_rows.py"].digest
    return found


def test_an_extractor_of_a_file_scores_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    record = scored("own_extractor.md", capsys)
    assert record["extractor"] == {"name": "pixels-4", "digest": sha256(Path("my_rows.py"))}
    infinity = ["fid_infinity", "fid_infinity_low", "fid_infinity_high"]
    assert list(record["values"]) == ["fid", "precision", "recall", *infinity]
    assert all(np.isfinite(list(record["values"].values())))


def test_kept_features_know_the_file_of_their_extractor(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record = scored("own_extractor.md", capsys)
    (shard,) = Path("store").glob("runs/*/samples/*/*/identity.pixels-4/*.safetensors")
    assert read_metadata(shard)["my_rows.py"] == record["versions"]["my_rows.py"]


def test_an_extractor_of_a_file_makes_a_reference_and_scores_images(
    numbers: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    write_blocks("own_extractor.md")
    write_array(Path("train.npz"), [numbers[:300]], 300)

    def make(out: str, *words: str) -> None:
        assert run_verb(capsys, "reference", "--images", "train.npz", "--out", out, *words)[0] == 0

    def score(against: str, *words: str) -> tuple[int, str, str]:
        return run_verb(
            capsys, "score", "--samples", "train.npz", "--reference", against, *words, "--json"
        )

    own, cnn = ("--extractor", "pixels-4", "--rows", "my_rows.py"), ("--extractor", "digits-cnn-1")
    make("ref.npz", *own)
    with np.load("ref.npz") as file:
        assert file["mu"].shape == (16,) and "mu_s" not in file.files
        assert str(file["extractor_digest"]) == sha256(Path("my_rows.py"))
    values = json.loads(score("ref.npz", *own)[1])
    assert values["fid"] == pytest.approx(0, abs=1e-6) and values["precision"] == 1
    values = json.loads(score("ref.npz", *own, "--metrics", "mind", "density", "coverage")[1])
    assert values["mind"] == pytest.approx(0, abs=1e-6) and "fid" not in values
    assert values["coverage"] == 1

    status, _, error = score("ref.npz", *own, "--metrics", "sfid")
    assert status == 1 and "sfid cannot be computed from pool features" in error
    assert "make it with harness reference --extractor digits-cnn-1" in score("ref.npz", *cnn)[2]
    make("cnn.npz", *cnn)
    assert "has mu_s, sigma_s, of a layer that pixels-4 does not" in score("cnn.npz", *own)[2]


def test_a_metric_of_a_file_is_in_every_score(capsys: pytest.CaptureFixture[str]) -> None:
    record = scored("own_metric.md", capsys)
    assert record["values"]["mean_distance"] > 0 and record["values"]["fid"] > 0
    assert run_verb(capsys, "collect", "mine.py", "--store", "store", "--out", ".")[0] == 0
    assert "mean_distance" in Path("mine.csv").read_text()
