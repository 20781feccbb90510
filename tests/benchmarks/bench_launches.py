"""Kernels that a step launches on a GPU, ours and the peers': `bench_launches.py --dit DIR`.

What a network too small to fill a GPU waits for. Counted on a GPU without numbers (fake_gpu.py);
an operator counts once, also one on many tensors, such as AdamW's.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from fake_gpu import GPU, Counted, fake_gpu  # before torch

# isort: split
import bench_sampler
import bench_training
from sides import Step, options

from harness.spec import Protocol, Run

Make = Callable[[], Step]


def launches(make: Make) -> Counter[str]:
    """What the second call of a step runs: the first makes the optimizer's state."""
    with fake_gpu():
        step = make()
        step()
        with Counted() as counted:
            step()
    return counted.kernels


def trainings(args: argparse.Namespace, model: str) -> Iterator[tuple[str, Make]]:
    run = Run(model=model, batch_size=args.batch)
    for name, folder in (("facebookresearch/DiT", args.dit), ("fast-DiT fp16", args.fast_dit)):
        if folder:
            half = name.endswith("fp16")
            yield name, partial(bench_training.released, folder, run, GPU, half)
    if args.sit:
        yield "willisma/SiT", partial(bench_training.released_sit, args.sit, run, GPU)
    for objective, words in (("ddpm", ""), ("flow", " flow")):
        for precision in args.precisions:
            mine = Run(**run.canonical() | {"precision": precision, "objective": objective})
            yield f"harness{words} {precision}", partial(bench_training.ours, mine, GPU, False)


def samplers(args: argparse.Namespace, model: str, steps: int = 2) -> Iterator[tuple[str, Make]]:
    """Guided ancestral sampling in so many steps."""
    run = Run(model=model)
    protocol = Protocol(name="p", images=args.batch, sampling_steps=steps, guidance=1.5)
    if args.dit:
        yield "facebookresearch/DiT", partial(bench_sampler.released, args.dit, run, protocol, GPU)
    for precision in args.precisions:
        mine = Protocol(**protocol.canonical() | {"precision": precision})
        yield f"harness {precision}", partial(bench_sampler.ours, run, mine, GPU, False)


def counts(args: argparse.Namespace, model: str) -> Iterator[tuple[str, str, Counter[str]]]:
    """What a step of training launches, and one more step of sampling."""
    for name, make in trainings(args, model):
        yield "training step", name, launches(make)
    for (name, two), (_, three) in zip(
        samplers(args, model, 2), samplers(args, model, 3), strict=True
    ):
        yield "sampler step", name, launches(three) - launches(two)


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(models=["DiT-S/2", "DiT-XL/2"], precisions=["tf32", "bf16"], batch=256)
    parser.add_argument("--most", type=int, default=0, help="names that many operators of each")
    args = parser.parse_args()
    for model in args.models:
        for what, name, found in counts(args, model):
            often = ", ".join(f"{key} {n}" for key, n in found.most_common(args.most))
            print(f"{model:<9}{what:<15}{name:<24}{found.total():>7}  {often}", flush=True)


if __name__ == "__main__":
    main()
