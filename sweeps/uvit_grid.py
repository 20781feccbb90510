"""Do long skips and all-as-tokens follow the same law? U-ViT's five sizes at DiT's recipe.

Bao et al. 2023 train U-ViT for 300,000 to 500,000 steps of batch 1,024; here are DiT's 400,000 of
256, its learning rate, EMA and label dropout, so that the table can stand beside dit_grid's. U-ViT
predicts noise alone: the variance of its sampler is fixed, and DiT on equal terms is
`harness run dit_grid objective=ddpm-fixed`.

On one A100 at its published pace: 760 hours of training, 260 of scoring, 180 GB of disk.
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="uvit_grid",
    runs=grid(
        Run,
        model=[
            f"U-ViT-{size}/{patch}" for size in ("S", "S-deep", "M", "L", "H") for patch in (4, 2)
        ],
        objective="ddpm-fixed",
    ),
    steps=tuple(range(50_000, 400_001, 50_000)),
    protocols=(Protocol(name="fid50k"),),
)
