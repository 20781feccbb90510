"""A run's network: its parameters, Gflops and operations in closed form, and how it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.data import DATASETS, Data
from harness.models import MODELS, Model, build, dit_rows
from harness.spec import Protocol, Run

if TYPE_CHECKING:
    from torch import nn


def gflops(run: Run) -> float:
    """Forward multiply-adds of one image / 1e9, exactly as fvcore counts them."""
    return dit_rows.multiply_adds(*built(run)) / 1e9


def parameters(run: Run) -> int:
    """The number of parameters, exactly, fixed positions included as in the paper's counts."""
    return dit_rows.parameters(*built(run))


def training_flop(run: Run, steps: int) -> float:
    """Operations (2 a multiply-add), the backward pass as two forwards."""
    return 2e9 * gflops(run) * run.batch_size * steps * 3


def sampling_flop(run: Run, protocol: Protocol) -> float:
    """Operations of the network alone; guidance runs it twice, and so do some samplers."""
    return 2e9 * gflops(run) * protocol.images * protocol.sampling_steps * protocol.forwards


def network(run: Run) -> nn.Module:
    """The network of a run, drawn from torch's default generator; this alone imports torch."""
    return build(*built(run))


def built(run: Run) -> tuple[Model, str, Data, int]:
    """What the network of a run is built from."""
    return MODELS[run.model], run.conditioning, DATASETS[run.data], run.objective_row.outputs
