"""Flow matching beside the released SiT, a training step and a sampler: `bench_sit.py --sit DIR`.

The released code imports timm and torchdiffeq: `pip install --no-deps -t SITE timm torchdiffeq`,
then PYTHONPATH=SITE.
"""

from __future__ import annotations

import copy
import itertools
from functools import partial
from pathlib import Path

import torch
from bench_training import update_ema
from sides import Makers, Step, head, imported, options, table
from torch import Tensor

from harness.base.distributed import Rank, keep_freed_memory
from harness.scoring.sample import sample
from harness.spec import Protocol, Run
from harness.study.cluster import Cluster
from harness.study.compute import gflops
from harness.training.step import new_network, new_state, stepper

STEPS = {"euler": 4, "sde-sigma": 4}
RELEASED = {"sde-sigma": "sigma"}  # its name of the diffusion


def batch(run: Run, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0, t, y, noise."""
    x0, noise = (torch.randn(run.batch_size, 4, 32, 32, device=device) for _ in range(2))
    y = torch.randint(1000, (run.batch_size,), device=device)
    return x0, torch.rand(run.batch_size, device=device), y, noise


def our_step(run: Run, device: torch.device) -> Step:
    keep_freed_memory()
    drawn = itertools.repeat(batch(run, device))
    optimise = stepper(run, new_state(run, device), Cluster(), Rank(0, 1, device))
    return lambda: optimise(1, drawn)


def their_step(folder: Path, run: Run, device: torch.device) -> Step:
    """The released loop body: network, transport's loss, AdamW, EMA, and loss.item()."""
    with imported(folder) as module:
        net = module("models").SiT_models[run.model.replace("DiT", "SiT")](input_size=32)
        transport = module("transport").create_transport()
    net.to(device).train()
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)
    x0, _, y, _ = batch(run, device)

    def step() -> None:
        loss = transport.training_losses(net, x0, {"y": y})["loss"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_ema(ema, net)
        loss.item()

    return step


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
    parser = options(__doc__)
    parser.add_argument("--sit", type=Path, required=True, help="a checkout of willisma/SiT")
    args = parser.parse_args()
    device = head(args)
    for model in args.models:
        run = Run(model=model, precision="fp32", batch_size=args.batch, objective="flow")
        forward = 2e9 * gflops(run) * args.batch
        step: Makers = {
            "willisma/SiT": partial(their_step, args.sit, run, device),
            "harness": partial(our_step, run, device),
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
