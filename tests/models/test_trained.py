"""Every family in training: resumed bit for bit, by any processes and parts, in one graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import apart, curve, only_training, ranks, train_all
from networks import SHARED, SMALL_RUNS, TINY_LDM, awake
from safetensors.torch import load_file

from harness.data import open_dataset
from harness.models import MODELS
from harness.spec import Run
from harness.study.store import Store
from harness.training.loop import make_batch
from harness.training.step import new_network

CPU = torch.device("cpu")
EACH = pytest.mark.parametrize("fields", SMALL_RUNS.values(), ids=SMALL_RUNS)


@pytest.fixture(autouse=True)
def small_ldm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "tiny-LDM", TINY_LDM)


def batch(run: Run) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """What the network is given at step 1, and what it sees of a second pass."""
    _, t, y, noise, *kept = make_batch(run, open_dataset(run.data), CPU, 1, 0, run.batch_size)
    return [noise, t, y], {"kept": kept[0]} if kept else {}


@EACH
def test_stopped_and_resumed_it_ends_bit_for_bit(fields: dict[str, Any], tmp_path: Path) -> None:
    once, twice = Store(tmp_path / "once"), Store(tmp_path / "twice")
    both = only_training((3, 6), **fields)
    (run,) = both.runs
    train_all(both, once)
    train_all(only_training((3,), **fields), twice)
    train_all(both, twice)
    assert len(twice.logs(run)) == 2 and curve(twice, run) == curve(once, run)
    assert once.ema(run, 6).read_bytes() == twice.ema(run, 6).read_bytes()
    start = 2 if "MDT" in run.model else 1  # of both passes
    assert curve(once, run)[0][1] == pytest.approx(start, rel=0.25)


RANK = """
import sys
from helpers import *
from networks import *
from harness.base.distributed import process_group
from harness.training.loop import train
with process_group("cpu") as rank, stop_on_signal() as stop:  # one rendezvous for all
    for name, fields in SHARED.items():
        store = Store(Path(sys.argv[1]) / name)
        (task,) = missing(only_training((2,), **fields), store)
        train(task, store, Cluster(device="cpu", microbatch=3), rank, stop, lambda *given: None)
"""


def test_processes_and_microbatches_change_nothing_but_rounding(tmp_path: Path) -> None:
    ranks(2, RANK, tmp_path / "shared")
    for name, fields in SHARED.items():
        alone, shared = (Store(tmp_path / part / name) for part in ("alone", "shared"))
        sweep = only_training((2,), **fields)
        (run,) = sweep.runs
        train_all(sweep, alone)
        mine, its = (
            torch.tensor([line[:3] + line[4:] for line in curve(store, run)])  # vb may be None
            for store in (shared, alone)
        )
        assert torch.allclose(mine, its, rtol=1e-4, atol=1e-5), name
        weights, others = (load_file(store.ema(run, 2)) for store in (shared, alone))
        assert max(apart(weights[key], others[key]) for key in others) < 1e-4, name


@pytest.mark.parametrize("name", ["U-ViT", "MDTv2", "U-Net", "modern", "long-skips", "factorised"])
def test_it_is_one_graph_to_the_compiler(name: str) -> None:
    """A break in the graph would cost most of what compiling gains; fullgraph raises there."""
    run = only_training((1,), **SMALL_RUNS[name]).runs[0]
    net = awake(new_network(run))
    given, more = batch(run)
    compiled: Any = torch.compile(net, fullgraph=True, backend="eager")
    assert apart(compiled(*given, **more), net(*given, **more)) < 1e-5
