"""What the metrics cost in seconds and GB: `python tests/benchmarks/bench_metrics.py [rows]`."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from harness.metrics.frechet import frechet_distance
from harness.metrics.neighbours import precision_recall
from harness.metrics.parity import precision_recall_fp16
from harness.metrics.reference import moments

# isort: split
from torch_fidelity.metric_fid import fid_statistics_to_metric


def seconds(task: Callable[[], float]) -> tuple[float, float]:
    began = time.perf_counter()
    value = task()
    return time.perf_counter() - began, value


def distance(rounds: int = 3, width: int = 2048) -> None:
    """FID distance with a spectrum like Inception's, in turns, since a machine is rarely idle."""
    draw = torch.Generator().manual_seed(0)
    mixing = (
        torch.randn(width, width, generator=draw) * torch.exp(-torch.arange(width) / 400)[:, None]
    )
    one, two = (moments(torch.randn(6000, width, generator=draw) @ mixing) for _ in range(2))
    first, second = ({"mu": own.mean, "sigma": own.sigma} for own in (one, two))
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: frechet_distance(one.mean, one.sigma, two.mean, two.sigma)))
        theirs.append(
            seconds(
                lambda: fid_statistics_to_metric(first, second, False)["frechet_inception_distance"]
            )
        )
    own, other = (float(np.median([took for took, _ in runs])) for runs in (ours, theirs))
    print(
        f"FID distance, d = {width}   ours {own:.2f} s   torch-fidelity {other:.2f} s"
        f"   ratio {other / own:.1f}",
        end="",
    )
    print(f"   relative difference {abs(ours[0][1] / theirs[0][1] - 1):.1e}")


def pairs(rows: int, others: int = 10_000, width: int = 2048) -> None:
    """Precision and recall; the peak is of the whole process, features included."""
    draw = torch.Generator().manual_seed(0)
    generated, real = (torch.randn(n, width, generator=draw) for n in (rows, others))
    for compute in (precision_recall, precision_recall_fp16):
        took, value = seconds(lambda compute=compute: compute(generated, real))  # type: ignore[misc]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        name = f"{compute.__name__:<22}{rows} x {others}"
        print(f"{name}   {took:.0f} s   peak {peak:.2f} GB   {value}")


if __name__ == "__main__":
    pairs(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
    distance()
