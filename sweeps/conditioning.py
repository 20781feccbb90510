"""Four ways to condition DiT-XL/2 (paper, Figure 5)."""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="conditioning",
    runs=grid(
        Run, model="DiT-XL/2", conditioning=["in-context", "cross-attention", "adaLN", "adaLN-Zero"]
    ),
    steps=(100_000, 200_000, 300_000, 400_000),
    protocols=(Protocol(name="fid50k"),),
)
