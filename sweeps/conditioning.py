"""Which conditioning serves DiT-XL/2 best?

Timestep and label enter the blocks in four ways, in-context, by cross-attention, by adaLN and by
adaLN-Zero, all else alike, for 400,000 steps (paper, Figure 5). The four differ in parameters and
Gflops, which the tables give beside each score.

On one A100 at its published pace: 1,100 hours of training, 180 of scoring, 170 GB of disk.
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="conditioning",
    runs=grid(
        Run, model="DiT-XL/2", conditioning=["in-context", "cross-attention", "adaLN", "adaLN-Zero"]
    ),
    steps=(100_000, 200_000, 300_000, 400_000),
    protocols=(Protocol(name="fid50k"),),
)
