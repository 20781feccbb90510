"""On the device too a run that was stopped ends bit for bit where an undisturbed one ends."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import (
    cluster_file,
    curve,
    finished,
    only_training,
    run_verb,
    started,
    tiny_run,
    train_all,
    written,
)
from place import DEVICE, GPU, everywhere, only_gpu, stepped
from torch import Tensor

from harness.base.errors import UserError
from harness.base.precision import repeatable
from harness.spec import Run, Sweep
from harness.study.plan import missing, newest
from harness.study.store import Store

OFTEN = 1e-9  # minutes between checkpoints: at every look
LAST = 300 if GPU else 100


def same(store: Store, other: Store, run: Run, step: int) -> None:
    assert curve(store, run) == curve(other, run)
    assert store.ema(run, step).read_bytes() == other.ema(run, step).read_bytes()


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=everywhere), "tf32", "bf16"])
def test_stopped_and_run_again_on_the_device_it_ends_bit_identical(
    precision: str, tmp_path: Path
) -> None:
    once, twice = Store(tmp_path / "once"), Store(tmp_path / "twice")
    fields = {"precision": precision, "model": "mini-DiT-S/2" if GPU else "mini-DiT-S/8"}
    train_all(only_training((20, 40), **fields), once, device=DEVICE.type)
    train_all(only_training((20,), **fields), twice, device=DEVICE.type)
    train_all(only_training((20, 40), **fields), twice, device=DEVICE.type)
    same(twice, once, only_training((40,), **fields).runs[0], 40)


def logged(process: subprocess.Popen[str], log: Path, lines: int) -> bool:
    """Waits until the log has that many lines; False where the process ended before."""
    while process.poll() is None:
        if log.exists() and log.read_bytes().count(b"\n") >= lines:
            return True
        time.sleep(0.005)
    return False


def begun(
    sweep: Sweep, folder: Path, store: Store, compiled: bool = False
) -> subprocess.Popen[str]:
    """`harness run` on the device."""
    given = {"store": str(store.root), "device": DEVICE.type, "checkpoint_minutes": OFTEN}
    cluster = cluster_file(folder, **given)
    with cluster.open("a") as file:
        file.write(f"compile = {str(compiled).lower()}\n")
    return started("run", written(sweep, folder), "--cluster", cluster)


def test_killed_on_the_device_and_run_again_it_ends_bit_identical(tmp_path: Path) -> None:
    sweep = only_training((LAST,))
    (run,), store, oracle = sweep.runs, Store(tmp_path / "store"), Store(tmp_path / "oracle")
    train_all(sweep, oracle, device=DEVICE.type)
    process = begun(sweep, tmp_path, store)
    assert logged(process, store.run(run) / "log.000.jsonl", 2)
    process.kill()
    status, _, _ = finished(process)
    assert status == -signal.SIGKILL and newest(run, store) < LAST
    status, _, err = finished(begun(sweep, tmp_path, store))
    assert status == 0 and not missing(sweep, store), err
    same(store, oracle, run, LAST)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_signal_saves_and_exits_also_during_a_compiled_step(
    compiled: bool, tmp_path: Path
) -> None:
    """Compiled, it arrives while the first step compiles: the log has its head alone."""
    endless, store = only_training((10_000_000,)), Store(tmp_path / "store")
    (run,) = endless.runs
    process = begun(endless, tmp_path, store, compiled)
    assert logged(process, store.run(run) / "log.000.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    status, _, err = finished(process, seconds=240)
    stopped = newest(run, store)
    assert status == 130 and stopped > 0 and "Traceback" not in err, (status, err)
    assert "run the same command to continue" in err.splitlines()[-1]
    assert len(curve(store, run)) == stopped, "the log ends where the state is"


NETWORK = {"model": "DiT-S/2", "data": "imagenet256", "batch_size": 32} if GPU else {}


@pytest.mark.parametrize("precision", [pytest.param("fp32", marks=everywhere), "tf32", "bf16"])
def test_steps_of_the_papers_networks_repeat_to_the_bit(precision: str) -> None:
    """What resuming rests on: no kernel of the step adds in an order of its own."""
    run = tiny_run(**NETWORK, precision=precision)
    (values, state), (again, other) = (stepped(run, 3) for _ in range(2))
    assert torch.equal(values, again)
    for mine, its in zip(state.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(mine, its)


def attention(q: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, q, q)


def embedding(table: Tensor) -> Tensor:
    """1,000 labels of 100 classes: each row is added to many times."""
    return F.embedding(torch.arange(1000, device=table.device) % 100, table.flatten(0, -2))


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


@only_gpu
@pytest.mark.parametrize("tokens", [256, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [attention, embedding, norm])
def test_each_backward_kernel_repeats_to_the_bit(
    kernel: Callable[[Tensor], Tensor], dtype: torch.dtype, tokens: int
) -> None:
    """Names the kernel where the law above fails; 16 heads as in L/2, at 256 and 512 pixels."""
    x = torch.randn(16, 16, tokens, 64, device=DEVICE, dtype=dtype, requires_grad=True)
    weight = torch.randn_like(kernel(x.detach()))
    with repeatable(DEVICE):
        first, second = (torch.autograd.grad(kernel(x), x, weight)[0] for _ in range(2))
    assert torch.equal(first, second)


@everywhere
@pytest.mark.parametrize(
    "model",
    [
        "DiT-S/2",
        *(f"{name}-S/2" for name in ("U-ViT", "DiffiT", "MDTv2")),
        "U-Net-S",
    ],
)
def test_every_kernel_of_a_step_has_one_order_of_its_sums(model: str) -> None:
    """Torch's strict mode raises where a kernel has none; the CPU has it on for this law too."""
    run = tiny_run(model=f"digit-{model}", data="digits8")
    before = torch.get_deterministic_debug_mode()
    with repeatable(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        stepped(run, 1)
    assert torch.get_deterministic_debug_mode() == before


@everywhere
def test_a_kernel_without_an_order_is_named_with_the_remedy() -> None:
    def put() -> Tensor:
        return torch.zeros(2).put_(torch.tensor([0, 0]), torch.ones(2))

    refused = pytest.raises(UserError, match=r"^put_ adds in any order.*repeatable = false")
    with refused, repeatable(torch.device("cuda")):
        put()
    with repeatable(torch.device("cuda"), wanted=False):
        put()


@only_gpu
def test_out_of_memory_is_one_line_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = only_training((10,), model="mini-DiT-XL/2", batch_size=1024)
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    room = (torch.cuda.memory_reserved() + 256e6) / total  # state fits, activations do not
    torch.cuda.set_per_process_memory_fraction(room)
    try:
        words = ("run", written(sweep, tmp_path), "--device", "cuda", "--store", tmp_path / "store")
        status, _, err = run_verb(capsys, *words)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    told = [line for line in err.splitlines() if "OutOfMemoryError" in line]
    assert status != 0 and "Traceback" not in err
    assert told and all("set a smaller microbatch (training)" in line for line in told), err
