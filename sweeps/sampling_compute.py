"""Sampling steps against model size: FID-10K of the grid at 400K steps (paper, Figure 10)."""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="sampling_compute",
    runs=grid(
        Run, model=[f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
    ),
    steps=(400_000,),
    protocols=tuple(
        Protocol(name=f"fid10k-{steps}", images=10_000, sampling_steps=steps)
        for steps in (16, 32, 64, 128, 256, 1000)
    ),
)
