"""Seeds to latents by index: image i depends on (seed, i) alone, whatever the batch or the number of ranks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from harness.base import rng
from harness.base.errors import UserError
from harness.base.tensors import load_tensors
from harness.data import DATASETS
from harness.objectives import ddpm as diffusion
from harness.spec import Protocol, Run
from harness.study.compute import network
from harness.study.store import Store


def labels(
    protocol: Protocol, classes: int, low: int, high: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The labels [high - low] of images low … high; balanced ones take turns, so that no split of the IS is sorted."""
    if protocol.labels == "balanced":
        return torch.arange(low, high, device=device) % classes
    return rng.integers(low, high, classes, device, "labels", protocol.seed)


@torch.inference_mode()
def sample(
    net: nn.Module, run: Run, protocol: Protocol, low: int, high: int, device: torch.device | str
) -> Tensor:
    """Latents low … high of a protocol in fp32, [high - low, C, h, w]."""
    data = DATASETS[run.data]
    shape, device = (data.channels, data.size, data.size), torch.device(device)
    torch.set_float32_matmul_precision("highest" if protocol.precision == "fp32" else "high")

    def noise(k: int) -> Tensor:
        return rng.normal(low, high, shape, device, "noise", protocol.seed, k)

    start = rng.normal(low, high, shape, device, "start", protocol.seed)
    y = labels(protocol, data.classes, low, high, device)
    denoiser = diffusion.guided(net, protocol.guidance, protocol.guidance_channels, data.classes)
    with torch.autocast(device.type, torch.bfloat16, enabled=protocol.precision == "bf16"):
        return diffusion.sample(
            protocol.sampler, denoiser, start, y, protocol.sampling_steps, noise
        )


def load_network(
    store: Store, run: Run, step: int, weights: str, device: torch.device, compiled: bool = False
) -> nn.Module:
    """The trained network in eval mode: its EMA, or its raw weights while the state is still there.

    Raises:
        ValueError: no such weights, or those of another model.
    """
    path, part = (
        (store.ema(run, step), "") if weights == "ema" else (store.state(run, step), "net.")
    )
    if not path.exists():
        raise UserError(
            f"{run.id} has no {weights} weights at step {step}: {path} is not there; train it again"
        )
    with torch.device("meta"):
        net = network(run)
    wanted = net.state_dict()
    found = {name[len(part) :]: x for name, x in load_tensors(path, str(device), part).items()}
    if {name: x.shape for name, x in found.items()} != {
        name: x.shape for name, x in wanted.items()
    }:
        raise UserError(
            f"{path} holds another model than {run.model}: move it away and train again"
        )
    net.load_state_dict(found, assign=True)
    return cast(nn.Module, torch.compile(net.eval())) if compiled else net.eval()
