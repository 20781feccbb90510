"""Averages of any width go out as scoring rebuilds them, and come back as the one they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import refused, run_verb, tiny_protocol, tiny_run, tiny_sweep, train_all, tree

from harness.base.tensors import load_tensors, read_metadata
from harness.scoring.sample import load_network
from harness.spec import Sweep
from harness.study.store import Store

RUN = tiny_run(ema="power-0.05+power-0.1", ema_decay=0.9999)
STEPS = (1, 2, 3, 4, 5, 6, 8)


def sweep() -> Sweep:
    protocols = (tiny_protocol(), tiny_protocol(name="wide", weights="ema-0.1"))
    return tiny_sweep(runs=(RUN,), steps=STEPS, protocols=protocols)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = Store(tmp_path_factory.mktemp("averages"))
    train_all(sweep(), made)
    return made


@pytest.mark.parametrize(
    ("weights", "width"), [("ema", 0.05), ("ema-0.1", 0.1), ("ema-0.07", 0.07)]
)
def test_an_average_goes_out_as_it_is_scored_and_comes_back_as_the_only_one(
    weights: str, width: float, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, other = tmp_path / "x.safetensors", Store(tmp_path / "other")
    words = ("--to", "safetensors", "--weights", weights, "--out", out, "--store", store.root)
    status, text, _ = run_verb(capsys, "export", RUN.id, *words)
    net, digest = load_network(store, RUN, 8, weights, torch.device("cpu"))
    wanted, note = net.state_dict(), read_metadata(out)
    assert status == 0 and (note["weights"], note["checkpoint"]) == (weights, digest)
    assert ("off by" in text) == ("off by" in note.get("rebuilt", "")) == (width == 0.07)
    status, text, _ = run_verb(capsys, "import", out, "--store", other.root)
    back = load_tensors(other.ema(tiny_run(ema=f"power-{width}", ema_decay=0.9999), 8))
    assert status == 0 and f"the file has power-{width} alone" in text
    assert ("warning: ema-0.07 is rebuilt from 7 snapshots" in text) == (width == 0.07)
    assert back.keys() == wanted.keys() and all(x.equal(wanted[n]) for n, x in back.items())


def test_the_card_and_the_folder_have_the_average_and_its_error(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--to", "diffusers", "--weights", "ema-0.07", "--out", tmp_path / "x")
    assert run_verb(capsys, "export", RUN.id, *words, "--store", store.root)[0] == 0
    card = (tmp_path / "x" / "README.md").read_text()
    assert "| weights | ema-0.07, SHA-256" in card
    assert (
        "| average | ema-0.07 is rebuilt from 7 snapshots of power-0.05+power-0.1, off by" in card
    )


def test_averages_that_cannot_be_had_are_one_line_and_nothing_is_written(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.pt"
    for weights, step, fault in (
        ("ema-0.25", 8, "cannot be rebuilt"),
        ("ema-0.07", 7, "has no ema-0.07 weights at step 7; steps that do: 1, 2, 3, 4, 5, 6, 8"),
        ("ema-x", 8, "take ema, raw, or ema-WIDTH"),
    ):
        words = ("--to", "pt", "--weights", weights, "--step", step, "--out", out)
        assert fault in refused(capsys, "export", RUN.id, *words, "--store", store.root)
    assert tree(tmp_path) == set()
