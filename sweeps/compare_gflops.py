"""Do families differ at equal Gflops at 256 px? DiT beside U-ViT, DiffiT and MDT, for a cluster.

Three sizes of each family, of nearest Gflops, on one recipe: DiT's, with noise alone predicted,
which every family can. MDTv2 takes 1.7 to 1.9 passes a step: its training compute is given beside
each score, and at equal compute it is to be read at fewer steps.

On one A100 at its published pace: 1,240 hours of training, 130 of scoring, 160 GB of disk.
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="compare_gflops",
    runs=grid(
        Run,
        model=[
            *(f"DiT-{size}/2" for size in ("S", "B", "L")),
            *(f"U-ViT-{size}/2" for size in ("S", "M", "L")),
            *(f"DiffiT-{size}/2" for size in ("S", "B", "L")),
            *(f"MDTv2-{size}/2" for size in ("S", "B", "L")),
        ],
        objective="ddpm-fixed",
    ),
    steps=(100_000, 200_000, 400_000),
    protocols=(Protocol(name="fid50k"),),
)
