"""How should compute be spent on ImageNet at 256 px? Runs of equal compute at Liang's budgets.

Six budgets of training operations, those of the scaling laws of text to image (Liang et al., arXiv
2410.08184), with widths within a factor of four of that study's best size: `harness isoflop` made
the steps. Nobody has printed such a study of class-conditional diffusion transformers. Under muP
one learning rate is for all widths; it is that of the muP paper, of another objective, and to be
checked on the smallest width first.

On one A100 at its published pace: 113 hours of training, 2.3 of scoring, 2.5 of encoding.
"""

from harness.spec import Protocol, Run, Sweep, Validation

# Steps that spend 1e17, 3e17, 6e17, 1e18, 3e18 and 6e18 operations at a batch of 256.
STEPS = {
    "DiT-w64-d12-h64/2": (256_170,),
    "DiT-w128-d12-h64/2": (80_287, 240_861, 481_722, 802_870),
    "DiT-w192-d12-h64/2": (38_979, 116_936, 233_873, 389_788, 1_169_363, 2_338_727),
    "DiT-w320-d12-h64/2": (15_152, 45_456, 90_911, 151_519, 454_557, 909_114),
    "DiT-w448-d12-h64/2": (24_013, 48_025, 80_042, 240_127, 480_255),
    "DiT-w640-d12-h64/2": (24_174, 40_291, 120_872, 241_744),
    "DiT-w896-d12-h64/2": (62_812, 125_623),
}

SWEEP = Sweep(
    name="imagenet_laws",
    trained={
        Run(
            model=model,
            objective="flow",
            parametrization="mup",
            lr=2**-10,
            ema="power-0.1",
        ): steps
        for model, steps in STEPS.items()
    },
    protocols=(
        Validation(name="val131k"),
        Protocol(name="sit10k", images=10_000, sampler="heun", sampling_steps=50, decoder="ft-ema"),
    ),
)
