"""Can more sampling steps make up for a smaller model?

FID-10K of the paper's twelve models at 400,000 steps, each sampled with 16 to 1,000 steps (paper,
Figure 10). A small model with many steps may take as much compute per image as a large model with
few: which of the two is better?

On one A100 at its published pace: 670 hours of training, shared with dit_grid, and 34 of scoring.
"""

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
