"""One training step beside the peers', interleaved: `python tests/benchmarks/bench_training.py --dit DIR [--help]`.

The peers' code is given by path and never part of this project:
  --dit   a checkout of github.com/facebookresearch/DiT     --fast-dit   one of github.com/chuanyangjin/fast-DiT
Both import timm (`pip install --no-deps -t SITE timm`, then PYTHONPATH=SITE); diffusers' DiT is installed already.
"""

from __future__ import annotations

import argparse
import copy
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
from torch import Tensor, nn

import harness.torchvision_ops  # noqa: F401  # timm and diffusers import torchvision
from harness.cluster import Cluster
from harness.cost import gflops
from harness.distributed import Place, keep_freed_memory
from harness.models import MODELS
from harness.spec import TIMESTEPS, Run
from harness.step import new_learner, stepper

Step = Callable[[], object]


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
            if name.split(".")[0] in ("models", "diffusion", "train"):
                del sys.modules[name]


def batch(run: Run, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0, t, y, noise."""
    x0, noise = (torch.randn(run.batch_size, 4, 32, 32, device=device) for _ in range(2))
    t = torch.randint(TIMESTEPS, (run.batch_size,), device=device)
    return x0, t, torch.randint(1000, (run.batch_size,), device=device), noise


def ours(run: Run, device: torch.device, compiled: bool) -> Step:
    """harness.step as harness.train calls it."""
    keep_freed_memory()
    drawn = batch(run, device)
    optimise = stepper(run, new_learner(run, device), Cluster(compile=compiled), Place(0, 1, device))
    return lambda: optimise(lambda low, high: tuple(x[low:high] for x in drawn))


def update_ema(ema: nn.Module, net: nn.Module) -> None:
    """As in the released train.py: it cannot be imported without its whole environment."""
    averages = dict(ema.named_parameters())
    for name, p in net.named_parameters():
        averages[name].data.mul_(0.9999).add_(p.data, alpha=1 - 0.9999)


def released(folder: Path, run: Run, device: torch.device) -> Step:
    """The released loop body: its network, its losses, AdamW with its defaults, its EMA, and loss.item()."""
    with imported(folder) as module:
        net = module("models").DiT_models[run.model](input_size=32, num_classes=1000).to(device).train()
        diffusion = module("diffusion").create_diffusion(timestep_respacing="")
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)
    x0, t, y, _ = batch(run, device)

    def step() -> None:
        loss = diffusion.training_losses(net, x0, t, {"y": y})["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_ema(ema, net)
        loss.item()

    return step


def of_diffusers(run: Run, device: torch.device) -> Step:
    """diffusers' DiTTransformer2DModel under a plain noise-prediction loss, fused AdamW and diffusers' own EMA."""
    from diffusers import DiTTransformer2DModel
    from diffusers.training_utils import EMAModel

    model = MODELS[run.model]
    net = DiTTransformer2DModel(
        num_attention_heads=model.heads, attention_head_dim=model.width // model.heads, in_channels=4, out_channels=8,
        num_layers=model.depth, sample_size=32, patch_size=model.patch, num_embeds_ada_norm=1000,
    ).to(device).train()  # fmt: skip
    ema = EMAModel(net.parameters(), decay=0.9999)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)
    x0, t, y, noise = batch(run, device)

    def step() -> None:
        loss = ((net(x0, t, y).sample.chunk(2, dim=1)[0] - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step(net.parameters())
        loss.item()

    return step


def matmul(size: int, device: torch.device) -> Step:
    """A square fp32 product: what the machine can do at best at this moment."""
    torch.set_float32_matmul_precision("highest" if device.type == "cpu" else "high")
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    return lambda: a @ b


def serve(connection: Connection, make: Callable[[], Step], device: torch.device, window: float) -> None:
    """One side in a process of its own, since what we ask of the C library must not help the others."""
    torch.manual_seed(0)
    step = make()
    once = [seconds(step, 1, device) for _ in range(3)][-1]  # the first compiles, the second fills caches
    connection.send(once)
    while connection.recv():
        connection.send(seconds(step, max(1, round(window / once)), device))


def compare(makers: dict[str, Callable[[], Step]], args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Seconds of a step of every side, window by window in turns, so that a busy machine slows all alike."""
    context = multiprocessing.get_context("spawn")
    sides: dict[str, Connection] = {}
    for name, make in makers.items():
        sides[name], there = context.Pipe()
        context.Process(target=serve, args=(there, make, device, args.window), daemon=True).start()
        sides[name].recv()
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, side in sides.items():
            side.send(True)
            found[name].append(side.recv())
    for side in sides.values():
        side.send(False)
    return found


def seconds(step: Step, times: int, device: torch.device) -> float:
    began = time.perf_counter()
    for _ in range(times):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / times


def makers(args: argparse.Namespace, run: Run, device: torch.device) -> dict[str, Callable[[], Step]]:
    """What is compared, the reference first where it is given."""
    peers = {"facebookresearch/DiT": args.dit, "fast-DiT": args.fast_dit}
    found: dict[str, Callable[[], Step]] = {n: partial(released, f, run, device) for n, f in peers.items() if f}
    found["diffusers"] = partial(of_diffusers, run, device)
    for precision in args.precisions:
        mine = Run(**run.canonical() | {"precision": precision})
        found[f"harness {precision}"] = partial(ours, mine, device, False)
        if args.compile:
            found[f"harness {precision} compiled"] = partial(ours, mine, device, True)
    return found


def table(run: Run, args: argparse.Namespace, device: torch.device) -> None:
    """images/s, the ratio to the first side window by window, and the share of the matmul peak beside it."""
    size = 2048 if device.type == "cpu" else 8192
    found = compare({"matmul": partial(matmul, size, device), **makers(args, run, device)}, args, device)
    peak = [2 * size**3 / s for s in found.pop("matmul")]
    first = next(iter(found.values()))
    work = 6e9 * gflops(run) * run.batch_size
    for name, spent in found.items():
        ratios = [theirs / s for theirs, s in zip(first, spent, strict=True)]
        share = statistics.median(work / s / p for s, p in zip(spent, peak, strict=True))
        print(
            f"{run.model:<9}{name:<24}{run.batch_size / statistics.median(spent):>9.2f}"
            f"{statistics.median(ratios):>8.2f}  ({min(ratios):.2f} … {max(ratios):.2f}){100 * share:>9.0f} %",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dit", type=Path)
    parser.add_argument("--fast-dit", type=Path)
    parser.add_argument("--models", nargs="+", default=["DiT-S/8", "DiT-S/4", "DiT-B/4"], choices=list(MODELS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {args.batch}, {args.rounds} windows")
    print(f"{'model':<9}{'side':<24}{'images/s':>9}{'ratio':>8}  (least … most){'of fp32 matmul':>16}")
    for model in args.models:
        table(Run(model=model, precision="fp32", batch_size=args.batch), args, device)


if __name__ == "__main__":
    main()
