"""Which guidance scale is the best for DiT-XL/2?

Classifier-free guidance trades diversity for fidelity. Nine scales from 1.0, which is none, to 4.0
are scored at 7 million steps: the paper's 1.0, 1.25 and 1.5 (Table 2) and a scan around them.

On one A100 at its published pace: 4,600 hours of training, 180 of scoring; of a trained model only
the scoring.
"""

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
