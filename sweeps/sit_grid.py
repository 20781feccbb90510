"""SiT's four models at DiT's recipe: does flow matching scale as diffusion does?

Ma et al. 2024 train patch 2 alone and print 400K steps by an ODE and an SDE sampler (Table 8). The
cost is that of DiT's four patch-2 models, and two evaluations of each.
"""

from harness.spec import Protocol, Run, Sweep, grid

SWEEP = Sweep(
    name="sit_grid",
    runs=grid(Run, model=[f"DiT-{size}/2" for size in ("S", "B", "L", "XL")], objective="flow"),
    steps=(400_000,),
    protocols=(
        Protocol(name="sit50k-ode", sampler="heun", sampling_steps=125, decoder="ft-ema"),
        Protocol(name="sit50k-sde", sampler="sde-sigma", sampling_steps=250, decoder="ft-ema"),
    ),
)
