"""How fast latents are read, and in what memory: `bench_latents.py [images]`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap

from harness.base import rng
from harness.base.files import sha256, write_json
from harness.data import DATASETS
from harness.data import index as files
from harness.data.encoded import Latents
from harness.encoding.encode import file_entry

NAME, BATCH, CPU = "imagenet256", 256, torch.device("cpu")


def make(folder: Path, images: int, shards: int = 128) -> None:
    """Writes latents of ImageNet's shape, filled by a repeated block of noise."""
    DATASETS[NAME] = replace(DATASETS[NAME], images=images)
    shape, shard = files.shape(NAME), -(-images // shards)
    noise = np.random.default_rng(0).standard_normal((shard, *shape)).astype(np.float16)
    (folder / "shards").mkdir(parents=True)
    paths = [files.shard_path(folder, i) for i in range(-(-images // shard))]
    checksums = np.array([[zlib.crc32(side) for side in sides] for sides in noise], np.uint32)
    for i, path in enumerate(paths):
        rows = min(shard, images - i * shard)
        open_memmap(path, "w+", np.float16, (rows, *shape))[:] = noise[:rows]
        np.save(files.checksums_path(folder, i), checksums[:rows])
    labels = files.labels_path(folder)
    np.save(labels, np.zeros(images, np.int32))
    index = files.Index(
        schema=files.SCHEMA,
        data=NAME,
        rows=images,
        shard=shard,
        shape=shape,
        dtype="float16",
        vae={"name": "none", "encoder": "none", "digest": ""},
        scale=0.18215,
        crop=files.CROP,
        pixels=256,
        classes=[""] * 1000,
        source="",
        listing="",
        unreadable=[],
        made={},
        shards=[file_entry(folder, path, path.stat().st_size, "") for path in paths],
        labels=file_entry(folder, labels, labels.stat().st_size, sha256(labels)),
    )
    write_json(files.index_path(folder), vars(index))


def order(data: Latents, step: int) -> torch.Tensor:
    return torch.from_numpy(rng.data_order(step, 0, BATCH, BATCH, len(data), 0))


def read(data: Latents, step: int) -> torch.Tensor:
    """The rows in fp16, gathered."""
    return data.read(order(data, step).numpy(), np.arange(BATCH) % 2, pin=False)[0]


def read_fp32(data: Latents, step: int) -> torch.Tensor:
    return read(data, step).float()


def batch(data: Latents, step: int) -> torch.Tensor:
    """What a training step gets; on a GPU the noise is drawn there."""
    return data.batch(order(data, step), 0, CPU, 0, step)[0]


def rate(task: Callable[[Latents, int], Any], data: Latents, steps: int) -> float:
    began = time.perf_counter()
    for step in range(1, steps + 1):
        task(data, step)
    return steps * BATCH / (time.perf_counter() - began)


def forget(folder: Path) -> None:
    """Drops the shards out of the page cache: what is mapped stays, so no dataset may be open."""
    for path in (folder / "shards").iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory() -> tuple[float, float]:
    """MB of this process's own memory, and of files it has mapped and touched."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {
        words[0]: int(words[1]) / 1024
        for words in lines
        if words and words[0] in ("RssAnon:", "RssFile:")
    }
    return found["RssAnon:"], found["RssFile:"]


def main(images: int, rounds: int = 7) -> None:
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder, images)
        for task in (read, read_fp32, batch):  # torch's own memory is not the latents'
            rate(task, Latents(NAME, folder), 10)
        before, _ = memory()
        forget(folder)
        cold = rate(read, Latents(NAME, folder), images // BATCH)
        data = Latents(NAME, folder)
        total = sum(x["bytes"] for x in data.index.shards) / 2**20
        print(
            f"{images:,} images, {total:.0f} MB in {len(data.shards)} shards\n"
            f"  {'read, cold':<18}{cold:>12,.0f}"
        )
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            for task in (read, read_fp32, batch):
                found.setdefault(task.__name__, []).append(
                    rate(task, data, min(images // BATCH, 40))
                )
        for title, v in found.items():
            print(f"  {title:<18}{statistics.median(v):>12,.0f} ({min(v):,.0f} … {max(v):,.0f})")
        own, mapped = memory()
        print(
            f"  memory of the process grew by {own - before:.0f} MB;"
            f" {mapped:.0f} MB of files are mapped"
        )


if __name__ == "__main__":
    if sys.argv[1:]:
        main(int(sys.argv[1]))
    else:  # each in a process of its own, for the memory
        print(
            f"latents 4 × 32 × 32, batches of {BATCH} in random order, images/s:"
            " median (least … most), 2 threads"
        )
        for size in (5_000, 40_000):
            subprocess.run([sys.executable, __file__, str(size)], check=True)
