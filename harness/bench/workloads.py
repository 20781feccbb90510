"""The workloads of a sweep, each set up on the code that does it: what `harness bench` times."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.base.distributed import Rank
from harness.base.precision import matmul_precision
from harness.base.prefetch import prefetch
from harness.data import DATASETS
from harness.data.origin import Origin
from harness.models.autoencoder import decoder_of, to_uint8
from harness.scoring import features
from harness.scoring.sample import sample
from harness.spec import Protocol, Run, Sweep
from harness.study import cost, memory
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.study.speed import Work
from harness.training.loop import make_batch
from harness.training.step import microbatches, new_state, stepper

SAMPLER_STEPS = 4  # timed; a protocol's time follows from its number of forwards
AUTOENCODER_BATCH = 16  # images in one forward of the autoencoder
IMAGES = 64  # in one call of what follows sampling
# diffusers' AutoencoderKL as the published decoders are configured.
AUTOENCODER: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}

Call = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Workload:
    """Work and how to do it: `make(batch, part)` gives a call on `batch` images by `part`."""

    work: Work
    batch: int
    part: int
    make: Callable[[int, int], Call]
    forwards: int = 1  # of each image in one call
    bytes: Callable[[int], float] = lambda part: 0.0  # memory that a forward of `part` needs
    compile: bool = False


def workloads(sweep: Sweep, cluster: Cluster, device: torch.device) -> list[Workload]:
    """Every work of the sweep once, in its order."""
    by_key: dict[str, Workload] = {}
    for run in sweep.runs:
        for workload in workloads_of(run, sweep.sampling, cluster, device):
            by_key.setdefault(workload.work.key, workload)
    return list(by_key.values())


def workloads_of(
    run: Run, protocols: Iterable[Protocol], cluster: Cluster, device: torch.device
) -> Iterator[Workload]:
    yield training_workload(run, cluster.of(run.model, False), device)
    if run.data_row.latent:
        yield encoding_workload(run, device)
    for protocol in protocols:
        yield sampling_workload(run, protocol, cluster.of(run.model, True), device)
        yield features_workload(run, protocol, device)
        if protocol.decoder != "identity":
            yield decoding_workload(run, protocol, device)


class RandomLatents:
    """A dataset of normal numbers on the device: what a step costs when data never waits."""

    def __init__(self, run: Run, device: torch.device, count: int = 1024) -> None:
        data = DATASETS[run.data]
        self.x = torch.randn(count, *data.shape, device=device)
        self.y = torch.randint(max(1, data.classes), (count,), device=device)
        self.origin = Origin(images=count, digest="random")

    def __len__(self) -> int:
        return len(self.y)

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        return self.x[index.to(device)], self.y[index.to(device)]


def training_workload(run: Run, cluster: Cluster, device: torch.device) -> Workload:
    """The real step on really drawn batches, as one device does it."""

    def settings(batch: int, part: int) -> tuple[Run, Cluster]:
        one = dataclasses.replace(cluster, microbatch=part, nodes=1, gpus_per_node=0)
        return dataclasses.replace(run, batch_size=batch), one

    def make(batch: int, part: int) -> Call:
        mine, alone = settings(batch, part)
        optimise = stepper(mine, new_state(mine, device), alone, Rank(0, 1, device))
        dataset, cuts = RandomLatents(run, device), microbatches(mine, alone, Rank(0, 1, device))
        drawn = prefetch(
            (
                make_batch(mine, dataset, device, step, *cut)
                for step in itertools.count(1)
                for cut in cuts
            ),
            device,
        )
        return lambda: optimise(1, drawn)

    def needed(part: int) -> float:
        return memory.training(*settings(part, part))

    return Workload(
        cost.training(run),
        run.batch_size,
        cluster.microbatch,
        make,
        bytes=needed,
        compile=cluster.compile,
    )


def sampling_workload(
    run: Run, protocol: Protocol, cluster: Cluster, device: torch.device
) -> Workload:
    """A few steps of the real sampler, on a network with random weights."""
    short = dataclasses.replace(
        protocol,
        sampling_steps=min(SAMPLER_STEPS, protocol.sampling_steps),
        guidance_schedule=None,  # of which a few steps are no fair share
    )

    def make(batch: int, part: int) -> Call:
        with device:  # not a seed's weights: values change no time, drawing on the CPU takes long
            net: nn.Module = network(run).eval()
        if cluster.compile:
            net = cast(nn.Module, torch.compile(net))
        return lambda: [sample(net, run, short, a, b, device) for a, b in cut(batch, part)]

    forwards = short.sampling_steps * protocol.forwards
    work, batch = cost.sampling(run, protocol), cluster.sampling_batch
    return Workload(work, batch, batch, make, forwards, compile=cluster.compile)


def cut(batch: int, part: int) -> Iterator[tuple[int, int]]:
    return ((low, min(batch, low + part)) for low in range(0, batch, part))


def decoding_workload(run: Run, protocol: Protocol, device: torch.device) -> Workload:
    """The real decoder, with random weights in the published configuration."""
    data, work = DATASETS[run.data], cost.decoding(run, protocol)

    def make(batch: int, part: int) -> Call:
        decode = decoder_of(autoencoder(), device)
        latents = torch.randn(batch, data.channels, data.size, data.size, device=device)
        rounded = matmul_precision(work.precision)
        return torch.inference_mode()(
            rounded(lambda: [to_uint8(decode(x)) for x in latents.split(part)])
        )

    return Workload(work, IMAGES, AUTOENCODER_BATCH, make)


def encoding_workload(run: Run, device: torch.device) -> Workload:
    """The encoder's forward in TF32, without reading and cropping images."""

    def make(batch: int, part: int) -> Call:
        vae = autoencoder().to(device)
        pixels = torch.randn(batch, 3, *2 * [DATASETS[run.data].pixels], device=device)
        rounded = matmul_precision("tf32")  # as harness encode does
        return torch.inference_mode()(
            rounded(lambda: [vae.encode(x).latent_dist.parameters for x in pixels.split(part)])
        )

    return Workload(cost.autoencoder("encoding", run.data), IMAGES, AUTOENCODER_BATCH, make)


def autoencoder() -> Any:
    """The published AutoencoderKL with random weights, as load_vae() gives it."""
    import harness.base.torchvision_ops  # noqa: F401, I001  # diffusers imports torchvision
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL(**AUTOENCODER)
    return vae.eval().requires_grad_(False)


def features_workload(run: Run, protocol: Protocol, device: torch.device) -> Workload:
    """The real extractor on random pixels."""

    def make(batch: int, part: int) -> Call:
        extractor = features.unweighted(protocol.features, str(device))
        images = torch.randint(256, (batch, *run.data_row.seen), dtype=torch.uint8, device=device)
        return lambda: [extractor(x) for x in images.split(part)]

    return Workload(cost.features(protocol), IMAGES, IMAGES, make)
