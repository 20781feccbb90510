"""How few sampling steps suffice? Faster samplers against 250 ancestral steps.

DiT-XL/2 at 400,000 steps is sampled with the paper's 250 ancestral steps, with DDIM and with
diffusers' DPM-Solver++ at fewer steps. The weights are the same, so whatever differs is the
sampler's.

On one A100 at its published pace: 270 hours of training, 21 of scoring; of a trained model only
the scoring.
"""

from harness.spec import Protocol, Run, Sweep

SAMPLERS = [
    ("ddpm", 250),
    ("ddim", 50),
    ("ddim", 100),
    ("dpm-solver++", 10),
    ("dpm-solver++", 20),
    ("dpm-solver++", 50),
]

SWEEP = Sweep(
    name="sampler",
    runs=(Run(model="DiT-XL/2"),),
    steps=(400_000,),
    protocols=tuple(
        Protocol(
            name=f"fid50k-{sampler.replace('+', 'p')}-{steps}",
            sampler=sampler,
            sampling_steps=steps,
        )
        for sampler, steps in SAMPLERS
    ),
)
