"""The paper's grid: S, B, L, XL × patch 8, 4, 2 at 256 px, 400K steps (Table 4, Figures 2–9)."""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="dit_grid",
    runs=grid(
        Run, model=[f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)]
    ),
    steps=tuple(range(50_000, 400_001, 50_000)),
    protocols=(Protocol(name="fid50k"),),
)
