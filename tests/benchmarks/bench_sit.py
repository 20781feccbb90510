"""Flow matching beside the released SiT, a training step and a sampler: `bench_sit.py --sit DIR`.

The released code imports timm and torchdiffeq: `pip install --no-deps -t SITE timm torchdiffeq`,
then PYTHONPATH=SITE.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from bench_training import batch, ours, released_sit
from sides import Makers, Step, head, imported, options, table

from harness.scoring.sample import sample
from harness.spec import Protocol, Run
from harness.study.compute import gflops
from harness.training.step import new_network

STEPS = {"euler": 4, "sde-sigma": 4}
RELEASED = {"sde-sigma": "sigma"}  # its name of the diffusion


def our_sampler(run: Run, sampler: str, device: torch.device) -> Step:
    net = new_network(run).to(device).eval()
    protocol = Protocol(name="bench", sampler=sampler, sampling_steps=STEPS[sampler])
    return lambda: sample(net, run, protocol, 0, run.batch_size, device)


def their_sampler(folder: Path, run: Run, sampler: str, device: torch.device) -> Step:
    """As many evaluations as ours: its fixed steps are one less than it is asked for."""
    with imported(folder) as module:
        net = module("models").SiT_models[run.model.replace("DiT", "SiT")](input_size=32)
        transport = module("transport")
        made = transport.Sampler(transport.create_transport())
    net.to(device).eval()
    if sampler == "euler":
        solve = made.sample_ode(sampling_method="euler", num_steps=STEPS[sampler] + 1)
    else:
        solve = made.sample_sde(diffusion_form=RELEASED[sampler], num_steps=STEPS[sampler])
    noise, _, y, _ = batch(run, device)

    def step() -> None:
        with torch.no_grad():
            solve(noise, net, y=y)

    return step


def main() -> None:
    args = options(__doc__).parse_args()
    if not args.sit:
        raise SystemExit("name a checkout of willisma/SiT by --sit")
    device = head(args)
    for model in args.models:
        run = Run(model=model, precision="fp32", batch_size=args.batch, objective="flow")
        forward = 2e9 * gflops(run) * args.batch
        step: Makers = {
            "willisma/SiT": partial(released_sit, args.sit, run, device),
            "harness": partial(ours, run, device, False),
        }
        table(model, step, 3 * forward, args.batch, args, device)
        for sampler, steps in STEPS.items():
            sides: Makers = {
                f"willisma/SiT {sampler}": partial(their_sampler, args.sit, run, sampler, device),
                f"harness {sampler}": partial(our_sampler, run, sampler, device),
            }
            table(model, sides, steps * forward, args.batch, args, device)


if __name__ == "__main__":
    main()
