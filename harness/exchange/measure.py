"""How far two networks of the same weights are apart, by forward and by sampling; measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.base import rng
from harness.data import DATASETS
from harness.models.dit_rows import TIME_FEATURES
from harness.models.layers import TimestepEmbedder
from harness.objectives.ddpm import with_scheduler
from harness.spec import Run
from harness.study.compute import network

if TYPE_CHECKING:
    from harness.objectives.rows import Denoiser

TIMESTEPS = (0, 10, 500, 999)  # at which a forward is compared
SAMPLING_STEPS = 4


def loaded(run: Run, tensors: dict[str, Tensor]) -> nn.Module:
    """The network of a run in eval mode with these tensors, which it shares."""
    with torch.device("meta"):
        net = network(run)
    net.load_state_dict(tensors, assign=True)
    net.eval()
    return net


class DiffusersTime(nn.Module):
    """A timestep embedder with the frequencies of diffusers' DiT: exponents over 127, not 128."""

    def __init__(self, embedder: TimestepEmbedder) -> None:
        super().__init__()
        self.mlp = embedder.mlp

    def forward(self, t: Tensor) -> Tensor:
        import harness.base.torchvision_ops  # noqa: F401, I001
        from diffusers.models.embeddings import get_timestep_embedding

        features = get_timestep_embedding(
            t, TIME_FEATURES, flip_sin_to_cos=True, downscale_freq_shift=1
        )
        return self.mlp(features)


@contextmanager
def diffusers_frequencies(net: Any) -> Iterator[None]:
    """The network as diffusers' DiT computes it, for a moment."""
    ours = net.t_embedder
    net.t_embedder = DiffusersTime(ours)
    try:
        yield
    finally:
        net.t_embedder = ours


def probe(run: Run) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a forward: noise, TIMESTEPS and labels; the same on every machine."""
    data, n = DATASETS[run.data], len(TIMESTEPS)
    x = rng.normal(0, n, data.shape, "cpu", "exchange")
    y = rng.integers(0, n, data.classes, "cpu", "exchange")
    return x, torch.tensor(TIMESTEPS), y


@torch.inference_mode()
def forward_difference(ours: Denoiser, theirs: Denoiser, run: Run) -> dict[int, float]:
    """|theirs - ours| / |ours| of the outputs, at each of TIMESTEPS."""
    given = probe(run)
    a, b = ours(*given).flatten(1), theirs(*given).flatten(1)
    apart = (b - a).norm(dim=1) / a.norm(dim=1)
    return dict(zip(TIMESTEPS, apart.tolist(), strict=True))


def frequency_shift(run: Run, tensors: dict[str, Tensor]) -> dict[int, float]:
    """How far diffusers' function of these weights is from the released one, by timestep."""
    net = loaded(run, tensors)

    def shifted(*given: Tensor) -> Tensor:
        with diffusers_frequencies(net):
            return net(*given)

    return forward_difference(net, shifted, run)


@torch.inference_mode()
def sampling_difference(ours: Denoiser, theirs: Denoiser, scheduler: Any, run: Run) -> float:
    """|theirs - ours| / |ours| of one image's latents by DPM-Solver++ in SAMPLING_STEPS steps.

    scheduler: the one that theirs is sampled by.
    """
    start, _, labels = (x[:1] for x in probe(run))
    process = run.objective_row.process()
    a = process.sample("dpm-solver++", ours, start, labels, SAMPLING_STEPS, lambda k: start)
    b = with_scheduler(scheduler, theirs, start, labels, SAMPLING_STEPS)
    return float((b - a).norm() / a.norm())


def percent(apart: dict[int, float]) -> str:
    """0, 0.04, 1.8 and 2.7 % at t = 0, 10, 500, 999."""
    values = ", ".join(f"{100 * value:.2g}" for value in apart.values())
    return f"{values} % of the output at t = {', '.join(map(str, apart))}"
