"""Does the recipe hold at 512 px? DiT-XL/2 scored on the way to 3 million steps.

The model and recipe of 256 px are trained on latents of four times as many tokens and scored
without guidance and with 1.5 (paper, Table 3).

On one A100 at its published pace: 8,800 hours of training, 430 of scoring, 200 GB of disk.
"""

from harness.spec import Protocol, Run, Sweep

SWEEP = Sweep(
    name="resolution",
    runs=(Run(model="DiT-XL/2", data="imagenet512"),),
    steps=(400_000, 1_301_000, 3_000_000),
    protocols=(
        Protocol(name="fid50k", reference="imagenet512"),
        Protocol(name="fid50k-g1.5", reference="imagenet512", guidance=1.5, decoder="ft-ema"),
    ),
)
