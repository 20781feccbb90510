"""The coordinate check: muP keeps activations over the width, and a broken rule does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from helpers import refused, run_verb
from torch import nn

from analysis.coordinates import growing, slopes
from harness.base.distributed import Rank
from harness.cli.coord_check import FIELDS
from harness.models import MODELS
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.training import parametrization, step
from harness.training.coordinates import Check, coordinates

SMALL = ("digit-DiT-S/8", "--heads", 4, 8, 20, "--steps", 2, "--seeds", 1)


def undivided(net: nn.Module, run: Run) -> list[dict[str, Any]]:
    """A rule that forgets the width: every weight learns at lr."""
    return [{**group, "growth": 1.0} for group in parametrization.groups(net, run)]


def test_under_mup_nothing_grows_and_under_the_standard_one_the_output_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = set(MODELS)
    status, out, _ = run_verb(capsys, "coord-check", *SMALL, "--out", tmp_path / "check")
    assert status == 0 and "under muP nothing grows with the width" in out
    table = pd.read_csv(tmp_path / "check_modules.csv")
    assert set(table["width"]) == {64, 128, 320} and set(table["step"]) == {0, 1, 2}
    found = slopes(table)
    assert found["mup"].abs().max() < 0.15
    assert "final_layer.linear" in growing(found, "standard")
    assert {path.suffix for path in tmp_path.glob("check.*")} == {".pdf", ".png", ".svg", ".csv"}
    assert set(MODELS) == known


def test_a_u_vit_grows_neither_since_its_output_begins_at_zero() -> None:
    """From a random output the attention of its last blocks grew, by a slope of 0.3."""
    check = Check({**FIELDS, "model": "digit-U-ViT-S/2"}, heads=(4, 16), steps=3, seeds=1)
    place = Rank(0, 1, torch.device("cpu"))
    table = pd.DataFrame(coordinates(check, Cluster(device="cpu"), place, lambda: None))
    assert growing(slopes(table)) == []
    first = table.query("step == 0 and module == 'final_layer' and parametrization == 'mup'")
    assert not first["value"].any()


def test_a_learning_rate_that_is_not_divided_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "groups", undivided)
    status, out, _ = run_verb(capsys, "coord-check", *SMALL, "--out", tmp_path / "check")
    assert status == 1
    assert "final_layer.linear" in next(line for line in out.splitlines() if "grow with" in line)


def test_what_cannot_be_checked_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "coord-check", "digit-DiT-X/8", "--steps", 0, "--heads", 4)
    for part in ("--steps 0", "--heads 4", "did you mean 'digit-DiT"):
        assert part in line
    assert "no of_heads" in refused(capsys, "coord-check", "digit-U-Net-S")
    for word, says in {
        "lrr=1": "lrr is unknown",
        "lr=0": "lr = 0",
        "seed=1": "seed: the check chooses it",
        "optimizer=sgd": "its rule is of Adam and AdamW, not of sgd",
    }.items():
        assert says in refused(capsys, "coord-check", "digit-DiT-S/8", word)
