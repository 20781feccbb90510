"""Does a small study on a CPU show the paper's law? Twelve transformers of handwritten digits.

Four sizes by three patches, as in the paper, are trained with one recipe and one seed on the 1,797
digits of scikit-learn at their own 8 × 8 pixels. Each is scored at three steps by 1,000 images
without guidance, through a small frozen network. The recipe was found on other seeds than this one
(docs/digits.md).
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="digits",
    runs=grid(
        Run,
        model=[
            f"digit-DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)
        ],
        data="digits8",
        batch_size=32,
        lr=3e-3,
        label_dropout=0.0,  # nothing here is guided
        ema_decay=0.99,
        precision="fp32",
    ),
    steps=(600, 1200, 2400),
    protocols=(
        Protocol(
            name="digits1k",
            images=1000,
            sampler="dpm-solver++",
            sampling_steps=10,
            guidance_channels=1,
            decoder="identity",
            features="digits-cnn-1",
            reference="digits",
            labels="balanced",
        ),
    ),
)
