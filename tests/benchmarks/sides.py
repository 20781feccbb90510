"""Sides compared in processes of their own, window by window in turns."""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import harness.base.torchvision_ops  # noqa: F401  # timm and diffusers import torchvision
from harness.bench.timing import clock

Step = Callable[[], object]
PEERS = (
    "models",
    "diffusion",
    "transport",
    "train",
    "libs",
    "masked_diffusion",
    "guided_diffusion",
    "ldm",
    "sde",
    "latte",
)
Makers = dict[str, Callable[[], Step]]


@contextmanager
def imported(folder: Path) -> Iterator[Callable[[str], Any]]:
    """Modules of a checkout by their plain names, which the next checkout uses again."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in PEERS:
                del sys.modules[name]


def as_released(device: torch.device) -> None:
    """TF32, which the scripts of DiT, fast-DiT and SiT turn on in their first lines."""
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def matmul(size: int, device: torch.device) -> Step:
    """A square fp32 product: what the machine can do at best at this moment."""
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    return lambda: a @ b


def processor_clock(call: Step, count: int, device: torch.device) -> float:
    """Seconds of this process's time on the CPU a call: what others leave of it is no matter."""
    began = time.process_time()
    for _ in range(count):
        call()
    return (time.process_time() - began) / count


def serve(
    connection: Connection, make: Callable[[], Step], device: torch.device, args: argparse.Namespace
) -> None:
    """One side in a process of its own: settings of the C library must not help the others."""
    torch.manual_seed(0)
    step, timed = make(), processor_clock if args.processor else clock
    # The first compiles, the second fills caches.
    once = [timed(step, 1, device) for _ in range(3)][-1]
    connection.send(once)
    while connection.recv():
        connection.send(timed(step, max(1, round(args.window / once)), device))


def compare(makers: Makers, args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of a step of every side, in turns: a busy machine slows all alike."""
    context = multiprocessing.get_context("spawn")
    sides: dict[str, Connection] = {}
    processes = []
    for name, make in makers.items():
        sides[name], there = context.Pipe()
        given = (there, make, device, args)
        processes.append(context.Process(target=serve, args=given, daemon=True))
        processes[-1].start()
        there.close()  # so that the end of that process is seen here, and not waited for
        sides[name].recv()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            side.send(True)
            found[name].append(side.recv())
    for side in sides.values():
        side.send(False)
    for process in processes:
        process.join()  # its memory is free for those that are compared next
    return found


def options(about: str | None) -> argparse.ArgumentParser:
    """Options of every comparison with peers; their code is given by path."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dit", type=Path, help="a checkout of github.com/facebookresearch/DiT")
    parser.add_argument(
        "--fast-dit", type=Path, help="a checkout of github.com/chuanyangjin/fast-DiT"
    )
    parser.add_argument("--sit", type=Path, help="a checkout of github.com/willisma/SiT")
    parser.add_argument("--models", nargs="+", default=["DiT-S/8", "DiT-S/4", "DiT-B/4"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precisions", nargs="+", default=["fp32"], help="fp32, tf32, bf16")
    parser.add_argument("--compile", action="store_true", help="our side also with torch.compile")
    parser.add_argument("--rounds", type=int, default=9, help="windows a side")
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    parser.add_argument(
        "--processor",
        action="store_true",
        help="time on the processor, of one thread: where others work",
    )
    return parser


def table(
    model: str,
    makers: Makers,
    work: float,
    images: int,
    args: argparse.Namespace,
    device: torch.device,
) -> None:
    """images/s, the ratio to the first side by window, and the share of the fp32 matmul rate.

    work: operations of one step, which makes `images` images.
    """
    size = 2048 if device.type == "cpu" else 8192
    found = compare({"matmul": partial(matmul, size, device), **makers}, args, device)
    peak = [2 * size**3 / s for s in found.pop("matmul")]
    first = next(iter(found.values()))
    for name, spent in found.items():
        ratios = [theirs / s for theirs, s in zip(first, spent, strict=True)]
        share = statistics.median(work / s / p for s, p in zip(spent, peak, strict=True))
        print(
            f"{model:<22}{name:<26}{images / statistics.median(spent):>9.2f}"
            f"{statistics.median(ratios):>8.2f}  ({min(ratios):.2f} … {max(ratios):.2f})"
            f"{100 * share:>9.0f} %",
            flush=True,
        )


def head(args: argparse.Namespace) -> torch.device:
    """Says what is measured on, above the tables."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    print(f"torch {torch.__version__}, {name}, batch {args.batch}, {args.rounds} windows a side")
    rates = f"{'images/s':>9}{'ratio':>8}  (least … most){'of fp32 matmul':>16}"
    print(f"{'model':<22}{'side':<26}{rates}")
    return device
