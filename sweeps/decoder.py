"""Three decoders of the same latents, DiT-XL/2 at 7M steps, guidance 1.5 (paper, Table 5)."""

from harness.spec import Protocol, Run, Sweep

SWEEP = Sweep(
    name="decoder",
    runs=(Run(model="DiT-XL/2"),),
    steps=(7_000_000,),
    protocols=tuple(
        Protocol(name=f"fid50k-{decoder}", guidance=1.5, decoder=decoder)
        for decoder in ("original", "ft-mse", "ft-ema")
    ),
)
