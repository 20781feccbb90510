"""DiT-XL/2 at 512 px (paper, Table 3), scored on the way."""

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
