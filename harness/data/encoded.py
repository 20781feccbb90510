"""What harness encode wrote, as datasets: latents of a VAE, or pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.base import rng
from harness.data.checks import checked_folder
from harness.data.origin import Origin
from harness.data.rows import DATASETS
from harness.data.shards import Array, open_labels, open_shards


class Encoded:
    """A folder that harness encode wrote: rows by the number of a sample, and their labels.

    Raises:
        UserError: the files are absent, not whole or not those of this dataset, all problems at
            once.
    """

    def __init__(self, name: str, path: Path | None) -> None:
        folder, self.index = checked_folder(name, path)
        self.mirrored = DATASETS[name].mirrored
        self.labels = open_labels(folder, self.index)
        self.shards = open_shards(folder, self.index)
        bad = np.array([x["row"] for x in self.index.unreadable], np.int64)
        # Before sample i lie as many unreadable rows as there are gaps ≤ i.
        self.gaps = bad - np.arange(len(bad))

    def __len__(self) -> int:
        return self.index.count

    @property
    def origin(self) -> Origin:
        index = self.index
        return Origin(
            images=index.count,
            digest=index.listing,
            vae=index.vae["digest"] or None,
            scale=index.scale,
            crop=index.crop,
        )

    def flips(self, low: int, high: int, *key: object) -> Tensor:
        """Which of the slots low … high are mirrored.

        Drawn on the CPU, which reads the one image or the other.
        """
        drawn = rng.uniform(low, high, "cpu", "mirror", *key)
        return drawn < (0.5 if self.mirrored else 0.0)

    def read(self, samples: Array, sides: Array, pin: bool) -> tuple[Tensor, Tensor]:
        """Reads rows [N, *shape of a side] as they are stored, and labels [N].

        sides: 0, or 1 for the mirror image where it is stored; pin: into memory that a GPU copies
        from by itself.
        """
        rows = samples + np.searchsorted(self.gaps, samples, side="right")
        shard, row = np.divmod(rows, self.index.shard)
        places = list(zip(shard.tolist(), row.tolist(), sides.astype(int).tolist(), strict=True))
        for k, i, side in places:
            self.shards[k].fetch(i, side)
        dtype = getattr(torch, self.index.dtype)
        stored = torch.empty(len(rows), *self.index.shape[1:], dtype=dtype, pin_memory=pin)
        for place, (k, i, side) in zip(stored.numpy(), places, strict=True):
            place[:] = self.shards[k].rows[i, side]
            self.shards[k].check(i, side, place)
        labels = torch.from_numpy(self.labels[rows].astype(np.int64))
        return stored, labels.pin_memory() if pin else labels


class Latents(Encoded):
    """Posterior means and deviations; every step draws fresh latents, mirrored or not."""

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        """Returns samples (mean + deviation · noise) · scale and their labels, on the device.

        Noise and mirroring are functions of the slot and of `key`.
        """
        high, shape = low + len(index), tuple(self.index.shape[2:])
        sides = self.flips(low, high, *key).numpy()
        moments, labels = self.read(index.numpy(), sides, device.type == "cuda")
        mean, deviation = moments.to(device, non_blocking=True).float().unbind(1)
        noise = rng.normal(low, high, shape, device, "posterior", *key)
        samples = noise.mul_(deviation).add_(mean).mul_(self.index.scale)
        return samples, labels.to(device, non_blocking=True)


class Images(Encoded):
    """Pixels, mirrored or not."""

    def batch(
        self, index: Tensor, low: int, device: torch.device, *key: object
    ) -> tuple[Tensor, Tensor]:
        """Returns samples in [-1, 1] and their labels, on the device.

        Mirroring is a function of the slot and of `key`.
        """
        mirrored = self.flips(low, low + len(index), *key)
        sides = np.zeros(len(index), np.int64)  # one is stored
        pixels, labels = self.read(index.numpy(), sides, device.type == "cuda")
        x = pixels.to(device, non_blocking=True).float().div_(127.5).sub_(1)
        flip = mirrored.to(device)[:, None, None, None]
        return torch.where(flip, x.flip(-1), x), labels.to(device, non_blocking=True)
