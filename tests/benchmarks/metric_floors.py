"""Metrics of real and noisy digits by number: `python tests/benchmarks/metric_floors.py`."""

from __future__ import annotations

import torch

from harness.data.digits import load
from harness.metrics.values import values
from harness.models.autoencoder import to_uint8
from harness.scoring import features, reference

NAMES = ("fid", "cmmd", "mind", "precision", "recall", "density", "coverage")
REFERENCE, DRAWS, NOISE = 897, 20, 25.0


def main() -> None:
    """A line a set and number: mean and standard deviation over 20 random parts of the digits."""
    network, digits = features.load("digits-cnn-1"), to_uint8(load()[0])
    noise = torch.randn(digits.shape, generator=torch.Generator().manual_seed(0))
    noisy = (digits.float() + NOISE * noise).clamp(0, 255).to(torch.uint8)
    sets = {"real": network(digits), "noisy": network(noisy)}
    print("    n  set  ", *(f"{name:>16}" for name in NAMES))
    for n in (100, 200, 400, 800):
        for name, found in sets.items():
            rows = []
            for seed in range(DRAWS):
                order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
                own, other = order[:n], order[n : n + REFERENCE]
                images = {layer: x[other] for layer, x in sets["real"].items()}
                target = reference.from_features("digits", "", images)
                one = values({layer: x[own] for layer, x in found.items()}, target, NAMES)
                rows.append([one[metric] for metric in NAMES])
            table = torch.tensor(rows, dtype=torch.float64)
            pairs = zip(table.mean(0), table.std(0), strict=True)
            print(f"{n:5}  {name:5}", *(f"{mean:9.3f} ± {s:.3f}" for mean, s in pairs))


if __name__ == "__main__":
    main()
