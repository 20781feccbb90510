"""The paper's 250 ancestral steps against diffusers' faster samplers, DiT-XL/2 at 400K steps."""

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
