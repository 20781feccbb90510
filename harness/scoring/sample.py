"""Seeds to images by index: image i depends on (seed, i) alone, never on batch or ranks."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from harness.base import rng
from harness.base.errors import UserError
from harness.base.files import sha256
from harness.base.precision import autocast, matmul_precision
from harness.base.tensors import load_tensors
from harness.data import DATASETS
from harness.models.autoencoder import Decoder, to_uint8
from harness.objectives.guidance import guided
from harness.objectives.guidance_schedules import read_guidance
from harness.scoring.averages import rebuilt
from harness.spec import Protocol, Run
from harness.study.compute import network
from harness.study.store import Store
from harness.study.tasks import Evaluate

DECODED = 16  # images decoded at a time: the VAE takes far more memory an image than the sampler


def labels(
    protocol: Protocol, classes: int, low: int, high: int, device: torch.device | str = "cpu"
) -> Tensor:
    """The labels [high - low] of images low … high; without classes the null label, 0.

    Balanced ones take turns, so that no split of the Inception score is sorted by class.
    """
    if not classes:
        return torch.zeros(high - low, dtype=torch.long, device=device)
    if protocol.labels == "balanced":
        return torch.arange(low, high, device=device) % classes
    return rng.integers(low, high, classes, device, "labels", protocol.seed)


def sample(
    net: nn.Module, run: Run, protocol: Protocol, low: int, high: int, device: torch.device | str
) -> Tensor:
    """Latents low … high of a protocol in fp32, [high - low, C, …]."""
    # In inference mode autocast would round the weights to bf16 in every forward, not once: S/8
    # took 1.18 times as long on a CPU, batch 8.
    quiet = torch.no_grad if protocol.precision == "bf16" else torch.inference_mode
    with quiet():
        return sampled(net, run, protocol, low, high, device)


def sampled(
    net: nn.Module, run: Run, protocol: Protocol, low: int, high: int, device: torch.device | str
) -> Tensor:
    """What sample() returns, without its choice of how gradients are left out."""
    data = DATASETS[run.data]
    shape, device = data.shape, torch.device(device)

    def noise(k: int) -> Tensor:
        return rng.normal(low, high, shape, device, "noise", protocol.seed, k)

    start = rng.normal(low, high, shape, device, "start", protocol.seed)
    y = labels(protocol, data.classes, low, high, device)
    process, text = run.objective_row.process(), protocol.guidance_schedule
    denoiser = guided(
        net,
        protocol.guidance,
        protocol.guidance_channels,
        data.classes,
        read_guidance(text) if text else None,
        process.noise_level if text else None,
    )
    with matmul_precision(protocol.precision), autocast(protocol.precision, device):
        return process.sample(protocol.sampler, denoiser, start, y, protocol.sampling_steps, noise)


def sample_images(
    net: nn.Module, decode: Decoder, task: Evaluate, low: int, high: int, device: torch.device
) -> Tensor:
    """Images low … high of an evaluation, uint8 [N, 1 or 3, …, H, W] on the device.

    Raises:
        UserError: latents or pixels are not finite; as bytes they would be black, and score.
    """
    return decoded_images(decode, task, sample_latents(net, task, low, high, device))


def sample_latents(
    net: nn.Module, task: Evaluate, low: int, high: int, device: torch.device
) -> Tensor:
    """Latents low … high of an evaluation, fp32 [N, C, …] on the device.

    Raises:
        UserError: some are not finite.
    """
    latents = sample(net, task.run, task.sampling, low, high, device)
    refuse_not_finite(latents, f"latents of {task.id}")
    return latents


def decoded_images(decode: Decoder, task: Evaluate, latents: Tensor) -> Tensor:
    """Images of latents [N, C, …], uint8 [N, 1 or 3, …, H, W].

    Raises:
        UserError: pixels are not finite.
    """
    images = []
    with matmul_precision(task.protocol.precision):
        for part in latents.split(DECODED):
            pixels = decode(part)
            refuse_not_finite(pixels, f"decoded images of {task.id}")
            images.append(to_uint8(pixels))
    return torch.cat(images)


def refuse_not_finite(x: Tensor, name: str) -> None:
    """Refuses x [N, ...], called `name`, where numbers in it are NaN or infinite.

    Raises:
        UserError: with how many of the rows of x [N, ...] are not finite.
    """
    if bad := int((~x.isfinite().flatten(1).all(1)).sum()):
        raise UserError(
            f"{bad} of {len(x)} {name} are not finite: if the run diverged, train it with a"
            " smaller lr; else use less guidance, or precision fp32"
        )


def load_network(
    store: Store, run: Run, step: int, weights: str, device: torch.device, compiled: bool = False
) -> tuple[nn.Module, str]:
    """The trained network in eval mode, and the SHA-256 of the file it was read from.

    `weights` are a protocol's.

    Raises:
        UserError: no such weights, those of another model, or a file replaced while it was read.
    """
    tensors, digest = read_weights(store, run, step, weights, device)
    with torch.device("meta"):
        net = network(run)
    expected = {name: x.shape for name, x in net.state_dict().items()}
    if {name: x.shape for name, x in tensors.items()} != expected:
        raise UserError(
            f"{store.weights(run, step, weights)} holds another model than {run.model}: move it"
            " away and train again"
        )
    net.load_state_dict(tensors, assign=True)
    net.eval()
    return (cast(nn.Module, torch.compile(net)) if compiled else net), digest


def read_weights(
    store: Store, run: Run, step: int, weights: str, device: torch.device
) -> tuple[dict[str, Tensor], str]:
    """The tensors of the file that has these weights, and its SHA-256; some have to be rebuilt.

    Raises:
        UserError: there is none, it is damaged, or it was replaced while it was read.
    """
    if run.file_of(weights) is None:
        tensors, digest = rebuilt(store, run, step, weights)
        return {name: x.to(device) for name, x in tensors.items()}, digest
    path = store.weights(run, step, weights)
    prefix = "net." if path == store.state(run, step) else ""
    if not path.exists():
        raise UserError(
            f"{run.id} has no {weights} weights at step {step}: {path} is not there; train it again"
        )
    before = path.stat()
    digest, tensors = sha256(path), load_tensors(path, str(device), prefix)
    after = path.stat()
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        raise UserError(f"{path} was replaced while it was read: run the same command again")
    return {name.removeprefix(prefix): x for name, x in tensors.items()}, digest
