"""Drawn images, a small VAE, and damaged files: shared by the tests of latents and of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data import DATASETS, Data

CLASSES = ("ant", "bee", "cat")
TINY = Data(4, 4, len(CLASSES), images=14, pixels=32, autoencoder="sd-v1")


def register(**fields: int) -> None:
    """As a user's row in the table; for processes of their own."""
    DATASETS["tiny"] = Data(**vars(TINY) | fields)


def draw(folder: Path, count: int = 14) -> Path:
    """Images of odd sizes in class folders, JPEG and PNG in turns."""
    random = np.random.default_rng(0)
    for i in range(count):
        height, width = random.integers(20, 90, 2)
        path = folder / CLASSES[i % len(CLASSES)] / f"{i:03d}{('.JPEG', '.png')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8))
        coarse.resize((int(width), int(height)), Image.Resampling.BICUBIC).save(path)
    return folder


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """A file with a few bytes changed, a part removed, repeated or replaced, or its end cut off."""
    start, end = sorted(random.integers(0, len(data) + 1, 2))
    match random.integers(5):
        case 0:
            return data[:start]
        case 1:
            return data[:start] + data[end:]
        case 2:
            return data[:end] + data[start:]
        case 3:
            return data[:start] + random.bytes(min(end - start, 16)) + data[start + 16 :]
    spoiled = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 8)):
        spoiled[place] = random.integers(256)
    return bytes(spoiled)


def autoencoder(folder: Path, seed: int = 0, **fields: Any) -> Path:
    """An AutoencoderKL of the released shape with random weights, narrow."""
    import harness.base.torchvision_ops  # noqa: F401, I001
    from diffusers import AutoencoderKL

    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8,) * 4,
        "latent_channels": 4,
        "norm_num_groups": 4,
        "layers_per_block": 1,
    }
    net: Any = AutoencoderKL(**shape | fields)
    net.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Data:
    """The dataset `tiny` is registered."""
    monkeypatch.setitem(DATASETS, "tiny", TINY)
    return TINY


@pytest.fixture(scope="session")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return autoencoder(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pictures"))
