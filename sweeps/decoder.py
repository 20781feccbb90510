"""How much of FID is the decoder's? Three decoders of the same latents.

DiT-XL/2 at 7 million steps and guidance 1.5 is decoded by the original VAE and by its two
fine-tuned decoders, ft-MSE and ft-EMA (paper, Table 5). The latents are the same, so whatever
differs is the decoder's.

On one A100 at its published pace: 4,600 hours of training, 22 of scoring; of a trained model only
the scoring.
"""

from harness.spec import Protocol, Run, Sweep

SWEEP = Sweep(
    name="decoder",
    runs=(Run(model="DiT-XL/2"),),
    steps=(7_000_000,),
    protocols=tuple(
        Protocol(name=f"fid50k-{decoder}", guidance=1.5, decoder=decoder)
        for decoder in ("original", "ft-mse", "ft-ema")
    ),
    keep=("features", "latents"),  # sampled once, decoded three times
)
