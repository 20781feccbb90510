"""What a step launches: fused kernels, whole graphs, and nothing that waits for the device."""

from __future__ import annotations

import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import do, only_training, tiny_protocol, tiny_run
from place import CPU, DEVICE, GPU, HERE, batches, everywhere, only_gpu, state_of
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from harness.scoring.sample import sample
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.plan import missing
from harness.study.store import Store
from harness.study.tasks import Train
from harness.training.step import stepper

ACTIVITIES = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * GPU
NETWORK = {"model": "DiT-S/2", "data": "imagenet256", "batch_size": 32} if GPU else {}


def step_of(run: Run, steps: int, **cluster: Any) -> Callable[[], object]:
    """A call that does one step of a run, its batches drawn before; one step is done already."""
    given = Cluster(**cluster)
    drawn = iter([*batches(run, given, steps + 1)])
    optimise = stepper(run, state_of(run), given, HERE)
    optimise(1, drawn)
    return lambda: optimise(2, drawn)


def launched(call: Callable[[], object], times: int = 1) -> dict[str, int]:
    """How often each operator, kernel and call of CUDA's runtime ran."""
    with profile(activities=ACTIVITIES) as profiler:
        for _ in range(times):
            call()
        if GPU:
            torch.cuda.synchronize()
    return {event.key: event.count for event in profiler.key_averages()}


def named(found: dict[str, int], *words: str) -> dict[str, int]:
    return {key: n for key, n in found.items() if any(word in key.lower() for word in words)}


@pytest.mark.parametrize(
    "precision",
    [pytest.param("fp32", marks=everywhere), "tf32", pytest.param("bf16", marks=only_gpu)],
)
def test_attention_is_one_fused_kernel_in_every_block(precision: str) -> None:
    """In bf16 a CPU multiplies step by step, since its fused kernel is slower there."""
    run = tiny_run(**NETWORK, precision=precision)
    found, depth = launched(step_of(run, 1)), run.model_row.depth  # type: ignore[attr-defined]
    fused = named(found, "aten::_scaled_dot_product_")
    assert not named(fused, "math") and "aten::_softmax" not in found, fused
    forward = {key: n for key, n in fused.items() if "backward" not in key}
    assert [*forward.values()] == [depth], fused
    if GPU:
        assert named(found, "flash", "fmha", "cudnn", "cutlass"), [*found]


@everywhere
def test_the_optimizer_and_the_average_are_fused() -> None:
    """One call of each for all weights; on a GPU a few kernels, not several a weight."""
    found = launched(step_of(tiny_run(**NETWORK), 1))
    assert found["aten::_fused_adamw_"] == found["aten::_foreach_lerp_"] == 1
    assert "aten::_foreach_addcdiv_" not in found and "aten::addcdiv_" not in found
    if GPU:  # a CPU has no kernel for many weights at once
        assert "aten::lerp_" not in found and named(found, "multi_tensor_apply"), [*found]


class Casts(TorchDispatchMode):
    """Notes which tensors are converted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.of: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).split(".")[1] in ("_to_copy", "to"):
            self.of.append(id(args[0]))
        return func(*args, **(kwargs or {}))


@everywhere
def test_sampling_in_bf16_rounds_each_weight_once() -> None:
    """And not in every step, as autocast does in torch's inference mode."""
    net = state_of(tiny_run()).net.eval()
    with Casts() as casts:
        sample(net, tiny_run(), tiny_protocol(precision="bf16", sampling_steps=5), 0, 4, DEVICE)
    often = [casts.of.count(id(weight)) for weight in net.parameters()]
    assert max(often) == 1


class Gates(TorchFunctionMode):
    """Notes whether autocast is on where tokens in bf16 are added to the residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.cast: set[bool] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.addcmul and args[2].dtype == torch.bfloat16 == args[1].dtype:
            self.cast.add(torch.is_autocast_enabled(DEVICE.type))
        return func(*args, **(kwargs or {}))


@everywhere
def test_gates_read_bf16_and_keep_no_copy_in_fp32() -> None:
    """CUDA's autocast would make one, of 7 % of a step's memory, and a kernel for each."""
    call = step_of(tiny_run(precision="bf16"), 1)
    with Gates() as gates:
        call()
    assert gates.cast == {False}


class Reads(TorchDispatchMode):
    """Counts what makes Python wait for a device: values read, and sizes that depend on values."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).split(".")[1] in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            self.waiting.append(str(func))
        return func(*args, **(kwargs or {}))


@everywhere
@pytest.mark.parametrize("microbatch", [256, 4])
def test_a_step_reads_no_value_back(microbatch: int) -> None:
    call = step_of(tiny_run(), 3, microbatch=microbatch)
    with Reads() as reads:
        for _ in range(3):
            call()
    assert reads.waiting == []


@only_gpu
def test_a_step_waits_for_nothing() -> None:
    """No call of CUDA's runtime in 20 steps that synchronises, but our own after the last."""
    found = launched(step_of(tiny_run(**NETWORK), 20), 20)
    waits = named(found, "streamsynchronize", "eventsynchronize", "memcpy dtoh")
    assert waits == {}, waits


@only_gpu
@pytest.mark.parametrize(
    ("objective", "sampler"),
    [
        *(("ddpm", sampler) for sampler in ("ddpm", "ddim", "dpm-solver++")),
        *(("flow", sampler) for sampler in ("euler", "sde-sigma")),
    ],
)
def test_sampling_waits_for_nothing(objective: str, sampler: str) -> None:
    """So that the next step is launched while the device works on this one."""
    run = tiny_run(objective=objective)
    protocol = tiny_protocol(sampler=sampler, sampling_steps=10, guidance=1.5)
    net = state_of(run).net.eval()
    sample(net, run, protocol, 0, 64, DEVICE)
    found = launched(lambda: sample(net, run, protocol, 0, 64, DEVICE))
    waits = named(found, "streamsynchronize", "eventsynchronize", "memcpy dtoh")
    assert waits == {}, waits


@only_gpu
def test_the_loop_waits_for_the_device_only_at_a_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that launches steps: the one that makes batches may wait for its own copies."""
    sweep = only_training((60,))
    (task,) = missing(sweep, Store(tmp_path))
    assert isinstance(task, Train)
    steps: list[str] = []

    def note(message: Any, category: Any, filename: str, lineno: int, *_: Any) -> None:
        frames = traceback.extract_stack()
        if "synchronizing CUDA" in str(message) and (
            threading.current_thread() is threading.main_thread()
            and any(frame.filename.endswith("training/step.py") for frame in frames)
        ):
            steps.append(f"{filename}:{lineno}")

    monkeypatch.setattr(warnings, "showwarning", note)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            do(task, Store(tmp_path), device="cuda")
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert steps == []


@pytest.mark.parametrize(
    ("model", "data"),
    [
        pytest.param("mini-DiT-S/4", "digits", marks=everywhere),
        *((f"digit-{family}-S/2", "digits8") for family in ("U-ViT", "DiffiT", "MDTv2")),
    ],
)
def test_no_graph_breaks_in_the_network(model: str, data: str) -> None:
    """One graph of all blocks: torch.compile(fullgraph) raises where it would have to break."""
    run = tiny_run(model=model, data=data)
    net = torch.compile(state_of(run, CPU).net, fullgraph=True, backend="eager")
    x, t = torch.randn(2, *run.data_row.shape), torch.tensor([3, 900])
    net(x, t, torch.tensor([0, 10])).sum().backward()
