"""Guidance of DiT-XL/2 at 7M steps: the paper's 1.0, 1.25, 1.5 (Table 2) and a scan."""

from harness.spec import Protocol, Run, Sweep

SCALES = [1.0, 1.125, 1.25, 1.375, 1.5, 1.75, 2.0, 3.0, 4.0]

SWEEP = Sweep(
    name="guidance",
    runs=(Run(model="DiT-XL/2"),),
    steps=(7_000_000,),
    protocols=tuple(
        Protocol(name=f"fid50k-g{scale}", guidance=scale, decoder="ft-ema") for scale in SCALES
    ),
)
