"""Where the laws run: on the GPU, or with the CPU in its place, at a size that fits it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from harness.base.distributed import Rank
from harness.bench.workloads import RandomLatents
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.training.loop import make_batch
from harness.training.step import TrainState, microbatches, new_state, stepper

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
GPU = DEVICE.type == "cuda"
HERE = Rank(0, 1, DEVICE)
SIZES = ("S", "B", "L", "XL") if GPU else ("S",)
only_gpu = pytest.mark.skipif(not GPU, reason="only a GPU can tell")
# Laws that the default suite checks too, with the CPU as the device: seconds in all.
everywhere = pytest.mark.everywhere


def state_of(run: Run, device: torch.device = DEVICE) -> TrainState:
    """Step 0 with weights that are nowhere zero, so that every layer counts."""
    state = new_state(run, device)
    with torch.no_grad():
        for weight, average in zip(state.net.parameters(), state.ema.parameters(), strict=True):
            if weight.requires_grad and not weight.any():
                noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
                average.copy_(weight.copy_(0.02 * noise))
    return state


def batches(run: Run, cluster: Cluster, steps: int) -> Iterator[tuple[Tensor, ...]]:
    """Microbatches of random latents, drawn as training draws them."""
    torch.manual_seed(0)
    data = RandomLatents(run, DEVICE)
    for step in range(1, steps + 1):
        for low, high in microbatches(run, cluster, HERE):
            yield make_batch(run, data, DEVICE, step, low, high)


def stepped(run: Run, steps: int, cluster: Cluster | None = None) -> tuple[Tensor, TrainState]:
    """What `steps` steps on random latents return [steps, terms + 1], and the state they leave."""
    cluster = cluster or Cluster()
    state = state_of(run)
    optimise, drawn = stepper(run, state, cluster, HERE), batches(run, cluster, steps)
    return torch.stack([optimise(step, drawn) for step in range(1, steps + 1)]).cpu(), state
