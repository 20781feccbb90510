"""One optimizer step: the network, its EMA and AdamW's state, and how a batch changes them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness.base import rng
from harness.base.distributed import Rank
from harness.objectives import ddpm as diffusion
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.compute import network

Drawn = Iterator[
    tuple[Tensor, ...]
]  # (x0, t, y, noise) of diffusion.losses, part after part, batch after batch


class Learner(NamedTuple):
    """What a step changes; all ranks have the same."""

    net: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer


def new_network(run: Run) -> nn.Module:
    """The network as the run's seed initialises it: on the CPU, so that every device starts alike."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed("weights", run.seed))
        return network(run)


def new_learner(run: Run, device: torch.device) -> Learner:
    """Network, EMA and optimizer at step 0."""
    net = new_network(run).to(device)
    ema = copy.deepcopy(net).requires_grad_(False)
    weights = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=run.lr, weight_decay=run.weight_decay, betas=(0.9, 0.999), fused=True
    )
    return Learner(net, ema, optimizer)


def parts(run: Run, cluster: Cluster, rank: Rank) -> list[tuple[int, int]]:
    """This rank's slots low … high of a batch, cut into as many forwards as the memory asks for."""
    low, high = rank.share(run.batch_size)
    return [(a, min(high, a + cluster.microbatch)) for a in range(low, high, cluster.microbatch)]


def stepper(run: Run, learner: Learner, cluster: Cluster, rank: Rank) -> Callable[[Drawn], Tensor]:
    """A function that does one step on the batch it is given; it returns this rank's part of (mse, vb, gradient norm).

    The mean over ranks is the batch's. It takes the next len(parts(…)) parts.
    """
    net, ema, optimizer = learner
    torch.set_float32_matmul_precision("highest" if run.precision == "fp32" else "high")
    autocast = torch.autocast(rank.device.type, torch.bfloat16, enabled=run.precision == "bf16")
    module = torch.compile(net) if cluster.compile else net
    forward: Any = DistributedDataParallel(module) if rank.world > 1 else module
    weights: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
    averages: list[Tensor] = [
        e for e, p in zip(ema.parameters(), net.parameters(), strict=True) if p.requires_grad
    ]
    table = diffusion.linear_schedule().table(rank.device)
    last = len(parts(run, cluster, rank)) - 1

    def step(drawn: Drawn) -> Tensor:
        values = torch.zeros(3, device=rank.device)
        for k in range(last + 1):
            x0, *rest = next(drawn)
            with (
                contextlib.nullcontext() if k == last or rank.world == 1 else forward.no_sync(),
                autocast,
            ):
                losses = diffusion.losses(forward, table, x0, *rest)
            mean = torch.stack(losses).mean(dim=1) * (
                len(x0) * rank.world / run.batch_size
            )  # ranks are averaged
            mean.sum().backward()
            values[:2] += mean.detach()
        values[2] = torch.nn.utils.get_total_norm([p.grad for p in weights if p.grad is not None])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch._foreach_lerp_(averages, weights, 1 - run.ema_decay)
        return values

    return step
