"""`harness bench`: how fast this device does every work of a sweep, timed on the real code, stored by its name."""

from __future__ import annotations

import dataclasses
import functools
import gc
import io
import itertools
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness import cost, features, memory
from harness.cluster import Cluster
from harness.data import DATASETS
from harness.decoders import load_decoder
from harness.distributed import Place
from harness.features import ADMInception, Extractor
from harness.provenance import device_name, provenance
from harness.sample import sample
from harness.spec import Protocol, Run, Sweep
from harness.speed import Work, measured
from harness.step import new_learner, new_network, stepper
from harness.store import Store, claim, write_json
from harness.train import PEAKS, draw

WINDOWS = 5  # stretches of time whose median counts
SAMPLER_STEPS = 4  # that are timed; a protocol's time follows from its number of forwards
SIDE = {"cuda": 8192, "cpu": 1024}  # of the square product whose speed is called the matmul peak
AUTOENCODER_BATCH, IMAGES = 16, 64  # images in one forward of the autoencoder, and in one call of what follows sampling
# diffusers' AutoencoderKL as the published decoders are configured.
AUTOENCODER: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
}  # fmt: skip

Say = Callable[[str], None]
Call = Callable[[], object]
Row = dict[str, Any]


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


def bench(sweep: Sweep, store: Store, cluster: Cluster, device: torch.device, seconds: float, say: Say) -> list[Row]:
    """Measures every work of the sweep's runs and protocols, each stored as soon as it is known; the rows.

    seconds: how long each is timed, and the longest that one call of it may take.
    """
    items, rows = works(sweep, cluster, device), []
    precisions = dict.fromkeys(item.work.precision for item in items)
    peaks = {precision: matmul_peak(device, precision, seconds) for precision in precisions}
    for number, item in enumerate(items, 1):
        found = attempt(item, device, peaks[item.work.precision], seconds)
        if isinstance(found, str):
            say(f"{number}/{len(items)} {item.work.key}: skipped: {found}")
            continue
        keep(found, item.work.key, store, device)
        rows.append(found)
        say(f"{number}/{len(items)} {item.work.key}: {found['images_per_second']:.4g} images/s")
    return rows


def works(sweep: Sweep, cluster: Cluster, device: torch.device) -> list[Item]:
    """Every work once, in the sweep's order."""
    found: dict[str, Item] = {}
    for run in sweep.runs:
        items = [training(run, cluster.of(run.model, False), device)]
        for protocol in sweep.protocols:
            batch = cluster.of(run.model, True).sampling_batch
            items += [sampling(run, protocol, batch, device), extracting(run, protocol, device)]
            if protocol.decoder != "identity":
                items += [decoding(run, device), encoding(run, device)]
        for item in items:
            found.setdefault(item.work.key, item)
    return list(found.values())


class RandomLatents:
    """A dataset of normal numbers on the device: what a step costs when data never waits."""

    def __init__(self, run: Run, device: torch.device, count: int = 1024) -> None:
        data = DATASETS[run.data]
        self.x = torch.randn(count, data.channels, data.size, data.size, device=device)
        self.y = torch.randint(data.classes, (count,), device=device)

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, index: Tensor, low: int, device: torch.device, *key: object) -> tuple[Tensor, Tensor]:
        return self.x[index.to(device)], self.y[index.to(device)]


def training(run: Run, cluster: Cluster, device: torch.device) -> Item:
    """The real step and the real draw; of several GPUs each would do its share of the batch."""

    def settings(batch: int, part: int) -> tuple[Run, Cluster]:
        one = dataclasses.replace(cluster, microbatch=part, nodes=1, gpus_per_node=0)
        return dataclasses.replace(run, batch_size=batch), one

    def make(batch: int, part: int) -> Call:
        mine, alone = settings(batch, part)
        optimise = stepper(mine, new_learner(mine, device), alone, Place(0, 1, device))
        dataset, steps = RandomLatents(run, device), itertools.count(1)
        return lambda: optimise(functools.partial(draw, mine, dataset, device, next(steps)))

    def needed(part: int) -> float:
        return memory.training(*settings(part, part))

    return Item(cost.training(run), run.batch_size, cluster.microbatch, make, bytes=needed, compile=cluster.compile)


def sampling(run: Run, protocol: Protocol, batch: int, device: torch.device) -> Item:
    short = dataclasses.replace(protocol, sampling_steps=min(SAMPLER_STEPS, protocol.sampling_steps))

    def make(batch: int, part: int) -> Call:
        net = new_network(run).to(device).eval()
        return lambda: [sample(net, run, short, a, b, device) for a, b in parts(batch, part)]

    forwards = short.sampling_steps * (1 if protocol.guidance == 1.0 else 2)
    return Item(cost.sampling(run, protocol), batch, batch, make, forwards)


def parts(batch: int, part: int) -> Iterator[tuple[int, int]]:
    return ((low, min(batch, low + part)) for low in range(0, batch, part))


def decoding(run: Run, device: torch.device) -> Item:
    """Through load_decoder, from random weights of the published configuration."""
    data = DATASETS[run.data]

    def make(batch: int, part: int) -> Call:
        with tempfile.TemporaryDirectory() as folder:
            autoencoder().save_pretrained(folder)
            decode = load_decoder("ft-mse", device, Path(folder), part)
        latents = torch.randn(batch, data.channels, data.size, data.size, device=device)
        return torch.inference_mode()(lambda: decode(latents))

    return Item(cost.autoencoder("decoding", run.data), IMAGES, AUTOENCODER_BATCH, make)


def encoding(run: Run, device: torch.device) -> Item:
    """The bare forward, in fp32; reading and cropping images is not in it."""

    def make(batch: int, part: int) -> Call:
        vae = autoencoder().to(device).eval()
        pixels = torch.randn(batch, 3, *2 * [DATASETS[run.data].pixels], device=device)
        return torch.inference_mode()(lambda: [vae.encode(x).latent_dist.parameters for x in pixels.split(part)])

    return Item(cost.autoencoder("encoding", run.data), IMAGES, AUTOENCODER_BATCH, make)


def autoencoder() -> Any:
    import harness.torchvision_ops  # noqa: F401, I001  # diffusers' autoencoder imports torchvision
    from diffusers import AutoencoderKL

    return AutoencoderKL(**AUTOENCODER)


def extracting(run: Run, protocol: Protocol, device: torch.device) -> Item:
    def make(batch: int, part: int) -> Call:
        extractor = extractor_of(protocol.features, str(device))
        side = DATASETS[run.data].pixels
        images = torch.randint(256, (batch, extractor.channels, side, side), dtype=torch.uint8, device=device)
        return lambda: [extractor(x) for x in images.split(part)]

    return Item(cost.features(protocol), IMAGES, IMAGES, make)


def extractor_of(name: str, device: str) -> Extractor:
    """The extractor; Inception with random weights, which nobody has to fetch for its speed."""
    if name != "inception":
        return features.load(name, device=device)

    class Unloaded(ADMInception):
        def load_state_dict(self, *_: object, **__: object) -> None:
            pass

    file = io.BytesIO()
    torch.save({}, file)
    file.seek(0)
    network = Unloaded(name, ["2048", "logits_unbiased"], feature_extractor_weights_path=file)
    return Extractor(name, "random", 3, 1008, device, network.to(device).eval())


def attempt(item: Item, device: torch.device, peak: float, seconds: float) -> Row | str:
    """The row of a work, of the largest batch that memory and time allow; or why there is none."""
    batch, once = item.batch, 2e9 * item.work.gmacs * item.forwards / peak  # seconds of one image, at best
    while batch > 1 and batch * once > seconds / WINDOWS:
        batch //= 2
    if batch * once > seconds:
        return f"one image takes {once:.1f} s or more: --seconds {math.ceil(2 * once)} would measure it"
    part = min(item.part, batch)
    while part and item.bytes(part) > room(device):
        part //= 2
    while part:
        try:
            return measure(item, max(part, batch // part * part), part, device, peak, seconds)
        except torch.OutOfMemoryError:
            part //= 2
        finally:  # what the last one left behind
            torch.compiler.reset()
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return "one image does not fit into the memory"


def room(device: torch.device) -> float:
    """Bytes that may be asked for: a GPU refuses what it does not have, a machine ends whoever asks."""
    return math.inf if device.type == "cuda" else 0.8 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def measure(item: Item, batch: int, part: int, device: torch.device, peak: float, seconds: float) -> Row:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    times = timed(item.make(batch, part), device, seconds)
    speeds = [batch * item.forwards / t for t in times]
    rate = statistics.median(speeds)
    sheet = next((top for chip, top in PEAKS.items() if chip in device_name(device)), None)
    return {
        **dataclasses.asdict(item.work), "images_per_second": rate, "least": min(speeds), "most": max(speeds),
        "batch": batch, "part": part, "compile": item.compile, "tflops": 2e-3 * item.work.gmacs * rate,
        "matmul_share": 2e9 * item.work.gmacs * rate / peak, "matmul_tflops": peak / 1e12,
        "mfu": 2e9 * item.work.gmacs * rate / sheet if sheet else None,
        "peak_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "threads": torch.get_num_threads(), **provenance(device),
    }  # fmt: skip


def timed(call: Call, device: torch.device, seconds: float) -> list[float]:
    """Seconds of one call in each window."""
    clock(call, 1, device)  # compiles, chooses kernels, fills caches
    once = clock(call, 1, device)
    count = max(1, round(seconds / WINDOWS / once))
    return [clock(call, count, device) for _ in range(max(3, min(WINDOWS, round(seconds / once))))]


def clock(call: Call, count: int, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / count


def matmul_peak(device: torch.device, precision: str, seconds: float) -> float:
    """Operations a second of a plain square product in that precision: what the rest is compared with."""
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    dtype, side = torch.bfloat16 if precision == "bf16" else torch.float32, SIDE[device.type]
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    return 2 * side**3 / statistics.median(timed(lambda: a @ b, device, seconds))


def keep(row: Row, key: str, store: Store, device: torch.device) -> None:
    """The row into the device's file; the others stay."""
    path = store.speed(device_name(device))
    with claim(path.with_suffix(".lock"), patience=30) as mine:
        if not mine:
            raise ValueError(f"{path} is held by another harness bench: run the same command again")
        rows = measured(path)["rows"] if path.exists() else {}
        write_json(path, {"device": device_name(device), "kind": device.type, "rows": rows | {key: row}})
