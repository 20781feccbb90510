"""Peak memory of tensors on a GPU against the closed form, which plan and launch rely on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from place import DEVICE, HERE, SIZES, batches, only_gpu

from harness.bench.workloads import autoencoder
from harness.models.autoencoder import decoder_of
from harness.scoring.sample import sample
from harness.spec import Protocol, Run
from harness.study import memory
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.training.step import new_state, stepper

pytestmark = only_gpu
IMAGES = {"S": 128, "B": 64, "L": 32, "XL": 32}


def peak(call: Callable[[], object]) -> int:
    """The most bytes of tensors that were alive at once, without what was there before."""
    warm = torch.randn(1024, 1024, device=DEVICE)  # cuBLAS takes its workspace with the first one
    for dtype in (torch.float32, torch.bfloat16):
        warm.to(dtype) @ warm.to(dtype)
    del warm
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("size", SIZES)
def test_training_takes_what_the_plan_says(size: str, precision: str) -> None:
    """A batch of two microbatches: gradients of the first meet activations of the second."""
    images = IMAGES[size]
    run = Run(model=f"DiT-{size}/2", batch_size=2 * images, precision=precision)
    cluster = Cluster(microbatch=images)

    def train() -> None:
        optimise, drawn = (
            stepper(run, new_state(run, DEVICE), cluster, HERE),
            batches(run, cluster, 2),
        )
        for step in (1, 2):
            optimise(step, drawn)

    assert peak(train) == pytest.approx(memory.training(run, cluster), rel=0.1)


@pytest.mark.parametrize("guidance", [1.0, 1.5])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("size", SIZES)
def test_sampling_takes_what_the_plan_says(size: str, precision: str, guidance: float) -> None:
    run = Run(model=f"DiT-{size}/2")
    protocol = Protocol(
        name="p", guidance=guidance, decoder="identity", precision=precision, sampling_steps=2
    )
    cluster = Cluster(sampling_batch=256)

    def draw() -> None:
        with DEVICE:
            net = network(run).eval()
        sample(net, run, protocol, 0, 256, DEVICE)

    assert peak(draw) == pytest.approx(memory.forwards(run, protocol, cluster), rel=0.1)


def test_decoding_takes_what_the_plan_says() -> None:
    """And at most half as much again, for cuDNN's copies of a convolution's input and output."""
    decode, latents = decoder_of(autoencoder(), DEVICE), torch.randn(16, 4, 32, 32, device=DEVICE)
    expected = memory.DECODED_AT_ONCE * memory.DECODED_VALUES * 4 * 256**2
    assert 0.9 < peak(torch.inference_mode()(lambda: decode(latents))) / expected < 1.6
