"""The embedded study: the paper's grid with small models of digits, in minutes on a CPU."""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="digits",
    runs=grid(
        Run,
        model=[f"mini-DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (8, 4, 2)],
        data="digits",
        batch_size=16,
        lr=3e-3,
        ema_decay=0.99,
        precision="fp32",
    ),
    steps=(250, 500, 1000),
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
        ),
    ),
)
