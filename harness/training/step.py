"""One optimizer step: the network, its EMA and AdamW's state, and how a batch changes them."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from harness.base import rng
from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.precision import autocast, matmul_precision, repeatable
from harness.spec import Run
from harness.spec.ema import Average
from harness.spec.schedule import Schedule, read_schedule
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.training.parametrization import groups, scale_weights

# (x0, t, y, noise) of an objective's losses, and what a second pass of the network sees, if any:
# the microbatches of each batch, batch after batch.
Batches = Iterator[tuple[Tensor, ...]]


class TrainState(NamedTuple):
    """What a step changes; the same on all ranks.

    others: averages beside the first, where a run tracks several.
    """

    net: nn.Module
    ema: nn.Module
    optimizer: torch.optim.Optimizer
    others: tuple[nn.Module, ...] = ()

    @property
    def averages(self) -> tuple[nn.Module, ...]:
        return (self.ema, *self.others)


def new_network(run: Run) -> nn.Module:
    """Builds the network as the run's seed initialises it: on the CPU, alike for every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.seed("weights", run.seed))
        net = network(run)
    scale_weights(net, run)
    return net


def new_state(run: Run, device: torch.device) -> TrainState:
    """Builds network, EMA and optimizer at step 0."""
    net = new_network(run).to(device)
    ema, *others = (copy.deepcopy(net).requires_grad_(False) for _ in run.averages)
    row = run.optimizer_row
    optimizer = getattr(torch.optim, row.of)(groups(net, run), **row.settings)
    return TrainState(net, ema, optimizer, tuple(others))


def microbatches(run: Run, cluster: Cluster, rank: Rank) -> list[tuple[int, int]]:
    """Cuts this rank's slots of a batch into spans low … high of at most cluster.microbatch."""
    low, high = rank.share(run.batch_size)
    return [(a, min(high, a + cluster.microbatch)) for a in range(low, high, cluster.microbatch)]


def refuse_terms(run: Run, count: int) -> None:
    """Checks the number of terms of the loss against the objective's row.

    Raises:
        UserError: the loss has another number of terms than the objective's row names.
    """
    if count != len(names := run.objective_row.terms):
        raise UserError(
            f"objective {run.objective!r}: its loss has {count} terms, its row names"
            f" {', '.join(names)}: name each"
        )


def stepper(
    run: Run, state: TrainState, cluster: Cluster, rank: Rank
) -> Callable[[int, Batches], Tensor]:
    """Returns a function that takes a step's number and microbatches, and does that step.

    It returns this rank's part of the objective's terms and the gradient norm; the mean over ranks
    is the batch's.
    """
    net, optimizer = state.net, state.optimizer
    alone = rank.world == 1
    module = torch.compile(net) if cluster.compile and not alone else net
    forward: Any = (
        module if alone else DistributedDataParallel(module, gradient_as_bucket_view=True)
    )
    weights: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
    averaged: list[tuple[list[Tensor], Average]] = [
        ([e for e, p in zip(m.parameters(), net.parameters(), strict=True) if p.requires_grad], how)
        for m, how in zip(state.averages, run.averages.values(), strict=True)
    ]
    losses_of = run.objective_row.process().losses(rank.device)
    terms = len(run.objective_row.terms)
    count = len(microbatches(run, cluster, rank))
    schedule = read_schedule(run.schedule) or Schedule()

    def mean_losses(*batch: Tensor) -> Tensor:
        """The mean of each term of the loss over a microbatch."""
        x0, t, y, noise, *kept = batch
        denoiser = partial(forward, kept=kept[0]) if kept else forward
        return torch.stack(losses_of(denoiser, x0, t, y, noise)).mean(dim=1)

    # Network and loss are one graph: a step of mini-DiT-S/8 takes 0.79 of the CPU time, to the same
    # values. Under DDP, which reduces gradients from hooks of its module, the network alone is one.
    losses: Any = torch.compile(mean_losses) if cluster.compile and alone else mean_losses

    @matmul_precision(run.precision)
    @repeatable(rank.device, cluster.repeatable)
    def step(number: int, batches: Batches) -> Tensor:
        values = torch.zeros(terms + 1, device=rank.device)
        for k in range(count):
            batch = next(batches)
            # Gradients are exchanged once, with the last microbatch.
            exchange = alone or k == count - 1
            synced = contextlib.nullcontext() if exchange else forward.no_sync()
            # Times world: ranks are averaged. A second pass doubles x0, so that its loss is added.
            share = len(batch[0]) * rank.world / run.batch_size
            with synced, autocast(run.precision, rank.device):
                mean = losses(*batch) * share
            refuse_terms(run, len(mean))
            mean.sum().backward()
            values[:terms] += mean.detach()
        values[terms] = torch.nn.utils.get_total_norm(
            [p.grad for p in weights if p.grad is not None]
        )
        for group in optimizer.param_groups:
            group["lr"] = run.lr * schedule.factor(number) / group["growth"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for average, how in averaged:
            torch._foreach_lerp_(average, weights, 1 - how.kept(number))
        return values

    return step
