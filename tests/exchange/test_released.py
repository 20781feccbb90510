"""Doors in for the other families: their released names become our networks, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from checkpoints import weights
from helpers import run_verb
from torch import Tensor

from harness.base.tensors import load_tensors
from harness.exchange.formats import NESTED, distances
from harness.spec import Run
from harness.study.store import Store

RUNS = (
    Run(model="digit-U-ViT-S/2", data="digits8", objective="ddpm-fixed", batch_size=32),
    Run(model="digit-MDTv1-S/2", data="digits8", batch_size=32),
    Run(model="digit-MDTv2-S/2", data="digits8", batch_size=32),
    Run(model="digit-DiffiT-S/2", data="digits8", batch_size=32),
)


def as_released(run: Run) -> dict[str, Tensor]:
    """The tensors under the authors' names, with the indices that their files hold."""
    found, inner = dict(weights(run)), "attn.relative_position_bias_table"
    for name in [name for name in found if name.endswith(NESTED)]:
        given = name.replace(NESTED, inner) if "DiffiT" in run.model else name
        found[given] = found.pop(name)
        found[given.replace("bias_table", "index")] = distances(4)
    return found


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.model)
def test_a_released_checkpoint_of_the_family_becomes_its_run(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = tmp_path / "0000009.pt", Store(tmp_path / "store")
    torch.save(as_released(run), file)
    words = [f"objective={run.objective}"] * bool(run.objective)
    status, out, err = run_verb(
        capsys, "import", file, "batch_size=32", "data=digits8", *words, "--store", store.root
    )
    assert status == 0, err
    assert ("warning: the released U-ViTs" in out) == ("U-ViT" in run.model)
    back, wanted = load_tensors(store.ema(run, 9)), weights(run)
    assert back.keys() == wanted.keys() and all(x.equal(wanted[n]) for n, x in back.items())
