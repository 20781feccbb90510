"""Does the best learning rate of a narrow transformer suit a wide one? With muP and without.

Four widths over a factor of eight and six learning rates, one seed (`seed=0,1` after the sweep's
name takes two), trained for 400 steps on 1,437 digits of scikit-learn at 8 × 8 pixels; the score is
the loss on the other 360. The base of muP is width 64, where both parametrizations are one network.
docs/mup.md has the result.
"""

from harness.spec import Run, Sweep, Validation, grid

SWEEP = Sweep(
    name="digits_mup",
    runs=grid(
        Run,
        model=[f"digit-DiT-w{width}-d2-h16/4" for width in (32, 64, 128, 256)],
        data="digits8-split",
        parametrization=["standard", "mup"],
        lr=[2.0**-k for k in (10, 9, 8, 7, 6, 5)],
        batch_size=32,
        label_dropout=0.0,
        ema_decay=0.99,
        precision="fp32",
    ),
    steps=(400,),
    protocols=(Validation(name="held-out", points=16_384),),
)
