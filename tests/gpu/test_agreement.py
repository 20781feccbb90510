"""A run on the CPU and on the device, in parts, on several ranks, and compiled: one curve."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import apart, curve, only_training, ranks, tiny_run, train_all
from place import CPU, DEVICE, GPU, everywhere, only_gpu, stepped
from safetensors.torch import load_file

from harness.data.digits import Digits
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.store import Store
from harness.training.loop import make_batch
from harness.training.step import new_network, new_state

DEVICES = {"device": DEVICE.type}


def close(store: Store, other: Store, run: Run, step: int, bound: float) -> None:
    """Losses, gradient norms and averaged weights agree to rounding."""
    for mine, its in zip(curve(store, run), curve(other, run), strict=True):
        assert mine == pytest.approx(its, rel=bound)
    weights, others = (load_file(s.ema(run, step)) for s in (store, other))
    assert max(apart(weights[name], others[name]) for name in others) < bound


@everywhere
def test_the_same_run_on_the_cpu_and_on_the_device_agrees_over_20_steps(
    tmp_path: Path, drawn_on_the_cpu: None
) -> None:
    """In fp32, the random numbers being the same; the device works in parts of another size."""
    network = {"model": "mini-DiT-S/4", "batch_size": 32} if GPU else {}
    sweep = only_training((20,), **network, lr=1e-4)
    here, there = Store(tmp_path / "cpu"), Store(tmp_path / "device")
    train_all(sweep, here, device="cpu")
    train_all(sweep, there, **DEVICES, microbatch=sweep.runs[0].batch_size // 2)
    close(there, here, sweep.runs[0], 20, 1e-5)


@everywhere
def test_order_and_weights_are_one_everywhere_and_noise_is_the_kind_of_devices() -> None:
    """Initial weights, samples and their labels are drawn on the CPU; noise, times and dropout not.

    So a run begun on a GPU and ended on a CPU is no run of either: its curve is one of the recipe.
    """
    run = tiny_run(batch_size=256, label_dropout=0.0)
    pairs = zip(new_state(run, DEVICE).net.parameters(), new_network(run).parameters(), strict=True)
    assert all(torch.equal(mine.cpu(), its) for mine, its in pairs)
    mine, its = (make_batch(run, Digits(), at, 3, 0, 256) for at in (DEVICE, CPU))
    x, t, y, noise = (torch.equal(a.cpu(), b) for a, b in zip(mine, its, strict=True))
    assert x and y
    assert (t or noise) != GPU


@everywhere
def test_where_a_batch_is_cut_changes_none_of_the_numbers_drawn_on_the_device() -> None:
    run = tiny_run(batch_size=200)
    whole = make_batch(run, Digits(), DEVICE, 5, 0, 200)
    for low, high in ((0, 3), (3, 70), (64, 128), (190, 200)):
        part = make_batch(run, Digits(), DEVICE, 5, low, high)
        assert all(torch.equal(a, b[low:high]) for a, b in zip(part, whole, strict=True))


@pytest.mark.parametrize("microbatch", [pytest.param(3, marks=everywhere), 4])
def test_microbatches_on_the_device_change_nothing_but_rounding(
    microbatch: int, tmp_path: Path
) -> None:
    sweep, whole, parts = only_training((20,)), Store(tmp_path / "whole"), Store(tmp_path / "parts")
    train_all(sweep, whole, **DEVICES)
    train_all(sweep, parts, **DEVICES, microbatch=microbatch)
    close(parts, whole, sweep.runs[0], 20, 1e-4)


# NCCL refuses two ranks on one GPU, gloo sums their tensors through the CPU.
RANK = """
import sys
sys.path.insert(0, "tests")
from helpers import *
import torch.distributed as dist
if sys.argv[1] == "gloo":
    begin = dist.init_process_group
    dist.init_process_group = lambda backend, **more: begin("gloo", **more)
train_all(only_training((20,), batch_size=12), Store(Path(sys.argv[3])), device=sys.argv[2])
"""


@pytest.mark.parametrize(
    "backend",
    [
        "gloo",
        pytest.param(
            "nccl",
            marks=pytest.mark.skipif(
                torch.cuda.device_count() < 2, reason="only two GPUs can tell: NCCL wants one each"
            ),
        ),
    ],
)
def test_two_ranks_train_what_one_trains(backend: str, tmp_path: Path) -> None:
    sweep, alone, two = (
        only_training((20,), batch_size=12),
        Store(tmp_path / "alone"),
        Store(tmp_path / "two"),
    )
    train_all(sweep, alone, **DEVICES)
    ranks(2, RANK, backend, DEVICE.type, two.root)
    close(two, alone, sweep.runs[0], 20, 1e-4)


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=only_gpu)])
def test_compiled_steps_are_the_plain_ones(precision: str) -> None:
    """In fp32 to rounding; in bf16 within what one rounding of activations may change."""
    network = {"model": "DiT-S/2", "data": "imagenet256"} if GPU else {}
    run = tiny_run(**network, precision=precision)
    plain, _ = stepped(run, 5)
    compiled, _ = stepped(run, 5, Cluster(compile=True))
    assert torch.allclose(compiled, plain, rtol={"fp32": 1e-4, "bf16": 2e-2}[precision], atol=1e-4)
