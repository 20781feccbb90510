"""Every work of a sweep, set up on the code that does it: what `harness bench` times."""

from __future__ import annotations

import dataclasses
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.base.distributed import Rank
from harness.base.prefetch import prefetch
from harness.data import DATASETS
from harness.models.autoencoder import decoder_of, load_vae, to_uint8
from harness.scoring import features
from harness.scoring.features import Extractor
from harness.scoring.sample import sample
from harness.spec import Protocol, Run, Sweep
from harness.study import cost, memory
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.study.speed import Work
from harness.training.loop import make_batch
from harness.training.step import microbatches, new_state, stepper

SAMPLER_STEPS = 4  # that are timed; a protocol's time follows from its number of forwards
AUTOENCODER_BATCH, IMAGES = (
    16,
    64,
)  # images in one forward of the autoencoder, and in one call of what follows sampling
# diffusers' AutoencoderKL as the published decoders are configured.
AUTOENCODER: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
}

Call = Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Item:
    """A work and how to do it: `make(batch, part)` sets up a call that does `batch` images, `part` in one forward."""

    work: Work
    batch: int
    part: int
    make: Callable[[int, int], Call]
    forwards: int = 1  # that one call does of each image
    bytes: Callable[[int], float] = lambda part: 0.0
    compile: bool = False


def works(sweep: Sweep, cluster: Cluster, device: torch.device) -> list[Item]:
    """Every work once, in the sweep's order."""
    found: dict[str, Item] = {}
    for run in sweep.runs:
        items = [training(run, cluster.of(run.model, False), device)]
        if run.data != "digits":
            items.append(encoding(run, device))
        for protocol in sweep.protocols:
            scoring = cluster.of(run.model, True)
            items += [sampling(run, protocol, scoring, device), extracting(run, protocol, device)]
            if protocol.decoder != "identity":
                items.append(decoding(run, device))
        for item in items:
            found.setdefault(item.work.key, item)
    return list(found.values())


class RandomLatents:
    """A dataset of normal numbers on the device: what a step costs when data never waits."""

    digest = "random"

    def __init__(self, run: Run, device: torch.device, count: int = 1024) -> None:
        data = DATASETS[run.data]
        self.x = torch.randn(count, data.channels, data.size, data.size, device=device)
        self.y = torch.randint(data.classes, (count,), device=device)

    def __len__(self) -> int:
        return len(self.y)

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        return self.x[index.to(device)], self.y[index.to(device)]


def training(run: Run, cluster: Cluster, device: torch.device) -> Item:
    """The real step and the real draw; of several GPUs each would do its share of the batch."""

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
        return lambda: optimise(drawn)

    def needed(part: int) -> float:
        return memory.training(*settings(part, part))

    return Item(
        cost.training(run),
        run.batch_size,
        cluster.microbatch,
        make,
        bytes=needed,
        compile=cluster.compile,
    )


def sampling(run: Run, protocol: Protocol, cluster: Cluster, device: torch.device) -> Item:
    short = dataclasses.replace(
        protocol, sampling_steps=min(SAMPLER_STEPS, protocol.sampling_steps)
    )

    def make(batch: int, part: int) -> Call:
        with (
            device
        ):  # no seed's weights: their values change no time, and drawing them on the CPU takes long
            net: nn.Module = network(run).eval()
        if cluster.compile:
            net = cast(nn.Module, torch.compile(net))
        return lambda: [sample(net, run, short, a, b, device) for a, b in cut(batch, part)]

    forwards = short.sampling_steps * protocol.forwards
    work, batch = cost.sampling(run, protocol), cluster.sampling_batch
    return Item(work, batch, batch, make, forwards, compile=cluster.compile)


def cut(batch: int, part: int) -> Iterator[tuple[int, int]]:
    return ((low, min(batch, low + part)) for low in range(0, batch, part))


def decoding(run: Run, device: torch.device) -> Item:
    """Through load_decoder, from random weights of the published configuration."""
    data = DATASETS[run.data]

    def make(batch: int, part: int) -> Call:
        with tempfile.TemporaryDirectory() as folder:
            autoencoder().save_pretrained(folder)
            decode = decoder_of(load_vae("ft-mse", Path(folder)), device)
        latents = torch.randn(batch, data.channels, data.size, data.size, device=device)
        return torch.inference_mode()(lambda: [to_uint8(decode(x)) for x in latents.split(part)])

    return Item(cost.autoencoder("decoding", run.data), IMAGES, AUTOENCODER_BATCH, make)


def encoding(run: Run, device: torch.device) -> Item:
    """The bare forward, in fp32; reading and cropping images is not in it."""

    def make(batch: int, part: int) -> Call:
        vae = autoencoder().to(device).eval()
        pixels = torch.randn(batch, 3, *2 * [DATASETS[run.data].pixels], device=device)
        return torch.inference_mode()(
            lambda: [vae.encode(x).latent_dist.parameters for x in pixels.split(part)]
        )

    return Item(cost.autoencoder("encoding", run.data), IMAGES, AUTOENCODER_BATCH, make)


def autoencoder() -> Any:
    import harness.base.torchvision_ops  # noqa: F401, I001  # diffusers' autoencoder imports torchvision
    from diffusers import AutoencoderKL

    return AutoencoderKL(**AUTOENCODER)


def extracting(run: Run, protocol: Protocol, device: torch.device) -> Item:
    def make(batch: int, part: int) -> Call:
        extractor = extractor_of(protocol.features, str(device))
        side = DATASETS[run.data].pixels
        images = torch.randint(
            256, (batch, extractor.channels, side, side), dtype=torch.uint8, device=device
        )
        return lambda: [extractor(x) for x in images.split(part)]

    return Item(cost.features(protocol), IMAGES, IMAGES, make)


def extractor_of(name: str, device: str) -> Extractor:
    """The extractor; Inception with random weights, which nobody has to fetch for its speed."""
    if name != "inception":
        return features.load(name, device=device)

    network = features.random_inception().to(device).eval()
    return Extractor(name, "random", 3, device, network)
