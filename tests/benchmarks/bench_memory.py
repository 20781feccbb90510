"""The closed form of peak memory beside what a GPU would allocate: `bench_memory.py [--help]`.

On a GPU without numbers (fake_gpu.py): what tensors take, not what cuDNN's workspaces do.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from unittest import mock

from fake_gpu import GPU, Counted, fake_gpu  # before torch

# isort: split
import torch
from torch import Tensor

from harness.base.distributed import Rank
from harness.bench.workloads import RandomLatents, autoencoder
from harness.models.autoencoder import decoder_of
from harness.scoring import features
from harness.scoring.sample import decoded_images, sample
from harness.spec import Protocol, Run
from harness.study import memory
from harness.study.cluster import Cluster
from harness.study.compute import network
from harness.study.tasks import Evaluate
from harness.training.loop import make_batch
from harness.training.step import microbatches, new_state, stepper

IMAGES = {"S": 128, "B": 64, "L": 32, "XL": 32}  # of a microbatch, as tests/gpu has them
Line = tuple[str, float, float]


def resized(images: Tensor, side: int) -> Tensor:
    """As harness.extractors.resize.bicubic gives them: on the CPU, from pixels."""
    return images.new_empty(len(images), 3, side, side)


@mock.patch("harness.extractors.dinov2.bicubic", resized)
@mock.patch("harness.extractors.clip.bicubic", resized)
@mock.patch("harness.scoring.sample.refuse_not_finite", mock.Mock())
def peak(call: Callable[[], object]) -> int:
    with fake_gpu(), Counted() as counted:
        call()
    return counted.most


def training(model: str, precision: str) -> Line:
    """Two steps of two microbatches: gradients of the first meet activations of the second."""
    part = IMAGES[model.partition("-")[2].partition("/")[0]]
    run = Run(model=model, batch_size=2 * part, precision=precision)
    cluster, rank = Cluster(microbatch=part), Rank(0, 1, GPU)

    def train() -> None:
        optimise = stepper(run, new_state(run, GPU), cluster, rank)
        data = RandomLatents(run, GPU)
        drawn = (
            make_batch(run, data, GPU, step, *span)
            for step in (1, 2)
            for span in microbatches(run, cluster, rank)
        )
        for step in (1, 2):
            optimise(step, drawn)

    name = f"training {model} {precision}, {part} images at a time"
    return name, peak(train), memory.training(run, cluster)


def sampling(model: str, precision: str, guidance: float) -> Line:
    run = Run(model=model)
    protocol = Protocol(
        name="p", guidance=guidance, decoder="identity", precision=precision, sampling_steps=2
    )

    def draw() -> None:
        net = network(run).to(GPU).eval()
        sample(net, run, protocol, 0, 256, GPU)

    name = f"sampling {model} {precision}, guidance {guidance}, 256 images"
    return name, peak(draw), memory.forwards(run, protocol, Cluster(sampling_batch=256))


def scoring(name: str, pixels: int) -> Line:
    """A batch of latents decoded, and its features extracted; the network of S/8 is there, too."""
    run = Run(model="DiT-S/8", data=f"imagenet{pixels}")
    protocol = Protocol(name="p", features=name)
    vae, extractor = autoencoder(), features.unweighted(name, "cpu")

    def score() -> None:
        net = network(run).to(GPU)
        ready = dataclasses.replace(extractor, device="cuda", network=extractor.network.to(GPU))
        latents = torch.randn(256, *run.data_row.shape, device=GPU)
        task = Evaluate(run, 1, protocol, True, "a measurement")
        with torch.inference_mode():
            ready(decoded_images(decoder_of(vae, GPU), task, latents))
        del net

    text = f"scoring 256 images of {pixels} pixels by {name}"
    return text, peak(score), memory.sampling(run, protocol, Cluster())


def lines(models: Iterable[str]) -> Iterator[Line]:
    for model in models:
        for precision in ("tf32", "bf16"):
            yield training(model, precision)
            for guidance in (1.0, 1.5):
                yield sampling(model, precision, guidance)
    for name in ("inception", "dinov2-vitl14", "clip-vitl14-336"):
        yield scoring(name, 256)
    yield scoring("inception", 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=[f"DiT-{size}/2" for size in IMAGES])
    for name, counted, expected in lines(parser.parse_args().models):
        text = f"{counted / 1e9:>8.2f} GB, closed form {expected / 1e9:>8.2f}"
        print(f"{name:<56}{text}  {expected / counted:.3f}", flush=True)


if __name__ == "__main__":
    main()
