"""Which family scales better at equal Gflops? Five families on the embedded digits.

DiT, U-ViT, DiffiT, MDTv2 and ADM's U-Net, three sizes each at the Gflops of digit-DiT-S, B and L
with a patch of 2 (to 8 %), by one recipe, on noise alone, which all can predict. MDTv2 takes two
passes a step: at equal steps it has twice the training compute, which the tables give. The recipe
is that of the digits study: no family has one of its own, and each paper's is for other data.
"""

from harness.spec import Protocol, Run, Sweep, grid

SIZES = {
    "digit-DiT-{}/2": ("S", "B", "L"),
    "digit-U-ViT-{}/2": ("S", "M", "L"),
    "digit-DiffiT-{}/2": ("S", "B", "L"),
    "digit-MDTv2-{}/2": ("S", "B", "L"),
    "digit-U-Net-{}": ("S", "B", "L"),
}

SWEEP = Sweep(
    name="compare_digits",
    runs=grid(
        Run,
        model=[name.format(size) for name, sizes in SIZES.items() for size in sizes],
        data="digits8",
        batch_size=32,
        lr=3e-3,
        label_dropout=0.0,  # nothing here is guided
        ema_decay=0.99,
        precision="fp32",
        objective="ddpm-fixed",
    ),
    steps=(1000, 2000),
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
