"""Precision is what the run or the protocol says, whatever the process was set to before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_protocol, tiny_run
from place import CPU, DEVICE, everywhere, only_gpu, state_of, stepped
from torch import Tensor, nn

from harness.base.precision import autocast, matmul_precision
from harness.scoring import features
from harness.scoring.sample import sample
from harness.spec import Run

EXACT, ROUNDED = ("ieee", "ieee"), ("tf32", "tf32")
BACKENDS: Any = torch.backends


def setting() -> tuple[str, str]:
    """How fp32 products of matrices and of convolutions are rounded at this moment."""
    assert BACKENDS.cuda.matmul.allow_tf32 == (BACKENDS.cuda.matmul.fp32_precision == "tf32")
    return BACKENDS.cuda.matmul.fp32_precision, BACKENDS.cudnn.conv.fp32_precision


@pytest.fixture
def tf32() -> Iterator[None]:
    """As in a process that turned TF32 on for all it does."""
    with matmul_precision("tf32"):
        assert setting() == ROUNDED
        yield
        assert setting() == ROUNDED


class Noting(nn.Module):
    """A network that notes under which setting it is called."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seen = net, set[tuple[str, str]]()

    def forward(self, *words: Tensor) -> Tensor:
        self.seen.add(setting())
        return self.net(*words)


@everywhere
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_sampling_rounds_to_tf32_where_the_protocol_says_so(precision: str, tf32: None) -> None:
    run, protocol = tiny_run(), tiny_protocol(precision=precision)
    net = Noting(state_of(run).net.eval())
    sample(net, run, protocol, 0, 4, DEVICE)
    assert net.seen == {EXACT if precision == "fp32" else ROUNDED}


def far(x: Tensor, exact: Tensor) -> float:
    """‖x - exact‖ / ‖exact‖."""
    return float((x.double().cpu() - exact).norm() / exact.norm())


@everywhere
def test_fp32_products_are_exact_although_tf32_is_on(tf32: None) -> None:
    a, b = torch.randn(2, 256, 256, dtype=torch.float64).unbind()
    image, kernel = torch.randn(2, 16, 32, 32).double(), torch.randn(16, 16, 3, 3).double()
    here = [x.float().to(DEVICE) for x in (a, b, image, kernel)]
    with matmul_precision("fp32"):
        assert far(here[0] @ here[1], a @ b) < 1e-6
        filtered = nn.functional.conv2d(image, kernel)
        assert far(nn.functional.conv2d(here[2], here[3]), filtered) < 1e-6


@only_gpu
def test_tf32_products_are_rounded_where_it_is_asked_for() -> None:
    a, b = torch.randn(2, 1024, 1024, dtype=torch.float64).unbind()
    with matmul_precision("tf32"):
        assert 1e-5 < far(a.float().to(DEVICE) @ b.float().to(DEVICE), a @ b) < 1e-3


def test_inception_is_ieee_fp32_although_tf32_is_on(random_inception: Path, tf32: None) -> None:
    """Features of the device are those of the CPU to 1e-4; TF32 would move them by 1e-3."""
    images = torch.randint(256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    seen = set()
    layers = []
    for device in (CPU, DEVICE):
        extractor = features.load("inception", random_inception, str(device), True)
        network: Any = extractor.network
        network.Mixed_6d.register_forward_hook(lambda *_: seen.add(setting()))
        layers.append(extractor(images.to(device, torch.uint8)))
    assert seen == {EXACT}
    for name, mine in layers[0].items():
        assert far(layers[1][name], mine.double()) < 1e-4, name


@everywhere
def test_bf16_stays_within_its_bounds() -> None:
    """8 bits of mantissa: the network's output moves by 0.1 to 3 %, its loss by less than 1 %."""
    run = tiny_run(model="mini-DiT-S/4")
    net = state_of(run).net.eval()
    x = torch.randn(16, 1, 16, 16, device=DEVICE)
    t, y = torch.arange(0, 960, 60, device=DEVICE), torch.arange(16, device=DEVICE) % 10
    with torch.inference_mode(), matmul_precision("fp32"):
        exact = net(x, t, y).double().cpu()
        with autocast("bf16", DEVICE):
            assert 1e-3 < far(net(x, t, y), exact) < 3e-2


@everywhere
def test_a_bf16_run_has_the_losses_of_the_fp32_run() -> None:
    """And weights, gradients and moments stay fp32."""
    runs = [tiny_run(precision=precision) for precision in ("fp32", "bf16")]
    (exact, _), (rounded, state) = (stepped(run, 5) for run in runs)
    assert torch.allclose(exact, rounded, rtol=2e-2) and not torch.equal(exact, rounded)
    moments = [x for x in state.optimizer.state.values() for x in x.values()]
    kept = [*state.net.parameters(), *state.ema.parameters(), *moments]
    assert {x.dtype for x in kept} == {torch.float32}


def test_rounding_is_of_the_run_in_training_too(tf32: None) -> None:
    """The loss of the first step in fp32 is the same to the bit whatever was set before."""
    run = Run(**tiny_run().canonical() | {"precision": "fp32"})
    inside, _ = stepped(run, 1)
    with matmul_precision("fp32"):
        outside, _ = stepped(run, 1)
    assert torch.equal(inside, outside)
