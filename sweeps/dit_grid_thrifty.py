"""Does FID follow compute, for a seventh of the scoring? The paper's grid and a cheap score.

The twelve runs of dit_grid, which are not trained twice, are scored every 50,000 steps by 10,000
images of 20 steps of DPM-Solver++, which shows the curves, and by the paper's protocol at the last
step alone, which is the number to compare.

On one A100 at its published pace: 670 hours of training, shared with dit_grid, and 34 of scoring.
"""

from dataclasses import replace

from harness.spec import Protocol
from sweeps.dit_grid import SWEEP as PAPER

SWEEP = replace(
    PAPER,
    name="dit_grid_thrifty",
    protocols={
        Protocol(
            name="fid10k-fast", images=10_000, sampler="dpm-solver++", sampling_steps=20
        ): PAPER.steps,
        Protocol(name="fid50k"): PAPER.steps[-1:],
    },
)
