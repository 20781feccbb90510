"""What the DDPM loop adds to the forwards it needs: `python tests/benchmarks/bench_sampler.py [rounds]`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch

from harness import diffusion, rng
from harness.data import DATASETS
from harness.models import build
from harness.spec import Run

# run, batch, steps
CASES = (
    (Run(model="mini-DiT-XL/2", data="digits", precision="fp32"), 256, 4),
    (Run(model="DiT-S/4", precision="fp32"), 8, 8),
)


def seconds(task: Callable[[], object]) -> float:
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


@torch.inference_mode()
def case(run: Run, batch: int, steps: int, rounds: int) -> None:
    """Windows of loop and of bare forwards in turns, so that a busy machine slows both alike."""
    data, net = DATASETS[run.data], build(run).eval()
    shape = (data.channels, data.size, data.size)
    x, y = rng.normal(0, batch, shape, "cpu", "start"), torch.zeros(batch, dtype=torch.long)
    t = torch.full((batch,), 500)

    def loop() -> object:
        return diffusion.ddpm(net, x, y, steps, lambda k: rng.normal(0, batch, shape, "cpu", "noise", k))

    def forwards() -> object:
        return [net(x, t, y) for _ in range(steps)]

    loop(), forwards()  # warm
    pairs = [(seconds(loop), seconds(forwards)) for _ in range(rounds)]
    ours, bare = ([1e3 * pair[i] / steps for pair in pairs] for i in range(2))
    more = [100 * (mine / needed - 1) for mine, needed in zip(ours, bare, strict=True)]
    cells = [f"{statistics.median(v):>8.1f} ({min(v):.1f} … {max(v):.1f})" for v in (ours, bare, more)]
    print(f"{run.model:<15}{batch:>5}{steps:>6}  " + "".join(f"{cell:<26}" for cell in cells))


def main(rounds: int) -> None:
    head = "".join(f"{name:<26}" for name in ("loop ms a step", "forwards ms a step", "loop over forwards %"))
    print(f"medians (least … most) of {rounds} windows, {torch.get_num_threads()} threads")
    print(f"{'model':<15}{'batch':>5}{'steps':>6}  {head}")
    for run, batch, steps in CASES:
        case(run, batch, steps, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
