"""Does FID follow compute? The paper's grid at 256 px.

Twelve diffusion transformers, sizes S, B, L and XL by patches of 8, 4 and 2, are trained with one
recipe for 400,000 steps and scored every 50,000 (paper, Table 4, Figures 2 to 9). If quality
depends on Gflops rather than on parameters, the twelve lie on one curve over Gflops.

On one A100 at its published pace: 670 hours of training, 230 of scoring, 390 GB of disk.
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="dit_grid",
    runs=grid(
        Run, model=[f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
    ),
    steps=tuple(range(50_000, 400_001, 50_000)),
    protocols=(Protocol(name="fid50k"),),
)
