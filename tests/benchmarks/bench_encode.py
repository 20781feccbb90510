"""What `harness encode` adds to the VAE's forwards: `bench_encode.py [images] [rounds]`."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import harness.base.torchvision_ops  # noqa: F401
from harness.base.distributed import Rank, Stop
from harness.data import DATASETS
from harness.encoding import encode as encoding
from harness.encoding.images import decoded
from harness.encoding.sources import open_source
from harness.study.cluster import Cluster
from harness.study.tasks import Encode

# isort: split
from diffusers import AutoencoderKL

NAME = "imagenet256"
BATCH = 2  # images, each with its mirror image


def draw(folder: Path, images: int) -> None:
    """Writes JPEG files of ImageNet's usual size, 500 × 375, of a photograph's 110 KB."""
    random = np.random.default_rng(0)
    for i in range(images):
        path = folder / f"class{i % 2}" / f"{i}.JPEG"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 256, (125, 166, 3), np.uint8)
        Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)


def released() -> Any:
    """sd-vae-ft-mse's network, with random weights."""
    torch.manual_seed(0)
    blocks = 4
    vae: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(128, 256, 512, 512),
        latent_channels=4,
        layers_per_block=2,
    )
    return vae.eval().requires_grad_(False)


@torch.inference_mode()
def bare(vae: Any, batches: list[torch.Tensor]) -> float:
    """Forward passes on images that are ready."""
    began = time.perf_counter()
    for x in batches:
        _ = vae.encode(x).latent_dist.mean
    return time.perf_counter() - began


def ours(task: Encode, out: Path) -> float:
    """The same from files to files; the listing and the digests of the weights are in it."""
    began = time.perf_counter()
    encoding.encode(
        replace(task, out=str(out)),
        Cluster(),
        Rank(0, 1, torch.device("cpu")),
        Stop(),
        lambda *_: None,
    )
    return time.perf_counter() - began


def main(images: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "images", images)
        source = open_source(folder / "images")
        DATASETS[NAME] = replace(DATASETS[NAME], images=images, classes=2)
        vae, task = released(), Encode(str(folder / "images"), "", NAME, "ft-mse", images)
        vars(encoding).update(load_vae=lambda *_: vae, PIXELS=BATCH * 256**2)
        x = (
            torch.from_numpy(np.stack(list(decoded(source, range(images), 256, 2)))).permute(
                0, 3, 1, 2
            )
            / 127.5
            - 1
        )
        batches = [torch.cat([part, part.flip(-1)]) for part in x.split(BATCH)]
        bare(vae, batches[:1])  # warm
        pairs = [(bare(vae, batches), ours(task, folder / str(i))) for i in range(rounds)]
    forwards, whole = zip(*pairs, strict=True)
    more = [100 * (mine / needed - 1) for needed, mine in pairs]
    print(
        f"{images} images of 500 × 375, batches of {BATCH} with mirror images,"
        f" {torch.get_num_threads()} threads;"
    )
    print(f"median (least … most) of {rounds} interleaved windows")
    rows = {
        "bare forwards, s an image": [t / images for t in forwards],
        "harness encode, s an image": [t / images for t in whole],
        "encode over forwards, %": more,
    }
    for title, v in rows.items():
        print(f"{title:<28}{statistics.median(v):>8.2f} ({min(v):.2f} … {max(v):.2f})")


if __name__ == "__main__":
    main(*(int(word) for word in (*sys.argv[1:], "6", "3")[:2]))
