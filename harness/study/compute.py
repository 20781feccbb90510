"""A run's network: its parameters, Gflops and operations, and how it is built. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.spec import AnyProtocol, Run
from harness.study.counts import counts

if TYPE_CHECKING:
    from torch import nn


def gflops(run: Run) -> float:
    """Forward multiply-adds of one image / 1e9, exactly as fvcore counts them."""
    return counts(run.model, run.setting).macs / 1e9


def parameters(run: Run) -> int:
    """The number of parameters, exactly, fixed positions included as in the paper's counts."""
    return counts(run.model, run.setting).parameters


def training_gflops(run: Run) -> float:
    """Multiply-adds of a training step's share of one image / 1e9: the backward as two forwards."""
    return 3 * gflops(run) * run.model_row.passes(run.setting)


def training_flop(run: Run, steps: int) -> float:
    """Operations (2 a multiply-add) of these steps."""
    return 2e9 * training_gflops(run) * run.batch_size * steps


def sampling_flop(run: Run, protocol: AnyProtocol) -> float:
    """Operations of the network alone; guidance runs it twice, and so do some samplers."""
    return 2e9 * gflops(run) * protocol.passes


def network(run: Run) -> nn.Module:
    """The network of a run, drawn from torch's default generator; this alone imports torch."""
    return run.model_row.build(run.setting)
