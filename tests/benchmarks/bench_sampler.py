"""DDPM sampling beside the released sampler and bare forwards: `bench_sampler.py [--dit DIR]`.

The cost of a step does not depend on their number: a window has --steps of them, where the paper
takes 250.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sides import Makers, Step, as_released, head, imported, options, table
from torch import Tensor

from harness.base.distributed import keep_freed_memory
from harness.data import DATASETS
from harness.scoring.sample import sample
from harness.spec import Protocol, Run
from harness.study.compute import network, sampling_flop


def ours(run: Run, protocol: Protocol, device: torch.device, compiled: bool) -> Step:
    """harness.scoring.sample as harness.scoring.evaluate calls it."""
    keep_freed_memory()
    net = network(run).to(device).eval()
    if compiled:
        net.compile()
    return lambda: sample(net, run, protocol, 0, protocol.images, device)


def forwards(run: Run, protocol: Protocol, device: torch.device) -> Step:
    """As many forwards of our network, and nothing else."""
    keep_freed_memory()
    data, net = DATASETS[run.data], network(run).to(device).eval()
    x = torch.randn(protocol.images, data.channels, data.size, data.size, device=device)
    t, y = torch.full((2, len(x)), 5, device=device)

    @torch.inference_mode()
    def step() -> list[Tensor]:
        return [net(x, t, y) for _ in range(protocol.sampling_steps)]

    return step


def released(folder: Path, run: Run, protocol: Protocol, device: torch.device) -> Step:
    """p_sample_loop of a checkout, as its sample_ddp.py calls it, guided where the protocol is."""
    as_released(device)
    with imported(folder) as module:
        made = module("models").DiT_models[run.model](input_size=32, num_classes=1000)
        diffusion = module("diffusion").create_diffusion(str(protocol.sampling_steps))
    net = made.to(device).eval()
    z = torch.randn(protocol.images, 4, 32, 32, device=device)
    y = torch.randint(1000, (len(z),), device=device)
    given: dict[str, Any] = {"y": y}
    forward = net.forward
    if protocol.guidance != 1:
        z, null = torch.cat([z, z]), torch.full_like(y, 1000)
        given = {"y": torch.cat([y, null]), "cfg_scale": protocol.guidance}
        forward = net.forward_with_cfg

    @torch.no_grad()
    def step() -> Tensor:
        return diffusion.p_sample_loop(
            forward, z.shape, z, clip_denoised=False, model_kwargs=given, device=device
        )

    return step


def makers(args: argparse.Namespace, run: Run, protocol: Protocol, device: torch.device) -> Makers:
    """What is compared: the reference first where it is given."""
    found: Makers = (
        {"facebookresearch/DiT": partial(released, args.dit, run, protocol, device)}
        if args.dit
        else {}
    )
    found["bare forwards"] = partial(forwards, run, protocol, device)
    for precision in args.precisions:
        mine = Protocol(**protocol.canonical() | {"precision": precision})
        found[f"harness {precision}"] = partial(ours, run, mine, device, False)
        if args.compile:
            found[f"harness {precision} compiled"] = partial(ours, run, mine, device, True)
    return found


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=10)
    args = parser.parse_args()
    device = head(args)
    for model in args.models:
        run = Run(
            model=model,
            data="digits" if model.startswith("mini") else "imagenet256",
            precision="fp32",
        )
        protocol = Protocol(name="timed", images=args.batch, sampling_steps=args.steps)
        table(
            model,
            makers(args, run, protocol, device),
            sampling_flop(run, protocol),
            args.batch,
            args,
            device,
        )


if __name__ == "__main__":
    main()
