"""One training step beside the peers': `bench_training.py --dit DIR [--help]`.

The peers import timm: `pip install --no-deps -t SITE timm`, then PYTHONPATH=SITE. diffusers' DiT is
installed already.
"""

from __future__ import annotations

import argparse
import copy
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sides import Makers, Step, as_released, head, imported, options, table
from torch import Tensor, nn

from harness.base.distributed import Rank, keep_freed_memory
from harness.models.dit_rows import DITS
from harness.objectives import TIMESTEPS
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.compute import gflops
from harness.training.step import new_state, stepper


def batch(run: Run, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0, t, y, noise."""
    x0, noise = (torch.randn(run.batch_size, 4, 32, 32, device=device) for _ in range(2))
    t = torch.randint(TIMESTEPS, (run.batch_size,), device=device)
    return x0, t, torch.randint(1000, (run.batch_size,), device=device), noise


def ours(run: Run, device: torch.device, compiled: bool) -> Step:
    """harness.training.step as harness.training.loop calls it."""
    keep_freed_memory()
    drawn = itertools.repeat(batch(run, device))
    optimise = stepper(run, new_state(run, device), Cluster(compile=compiled), Rank(0, 1, device))
    return lambda: optimise(1, drawn)


def update_ema(ema: nn.Module, net: nn.Module) -> None:
    """As in the released train.py: it cannot be imported without its whole environment."""
    averages = dict(ema.named_parameters())
    for name, p in net.named_parameters():
        averages[name].data.mul_(0.9999).add_(p.data, alpha=1 - 0.9999)


def released(folder: Path, run: Run, device: torch.device, half: bool = False) -> Step:
    """The released loop body: network, losses, AdamW with defaults, EMA, and loss.item().

    half: fp16, as fast-DiT is launched (accelerate --mixed_precision fp16), without the scaler.
    """
    with imported(folder) as module:
        made = module("models").DiT_models[run.model](input_size=32, num_classes=1000)
        diffusion = module("diffusion").create_diffusion(timestep_respacing="")
    x0, t, y, _ = batch(run, device)
    return loop_body(
        made.to(device).train(),
        lambda net: diffusion.training_losses(net, x0, t, {"y": y})["loss"],
        device,
        half,
    )


def released_sit(folder: Path, run: Run, device: torch.device) -> Step:
    """The same of SiT: linear path, velocity, times drawn within the loss."""
    with imported(folder) as module:
        made = module("models").SiT_models[run.model.replace("DiT", "SiT")](
            input_size=32, num_classes=1000
        )
        transport = module("transport").create_transport()
    x0, _, y, _ = batch(run, device)
    return loop_body(
        made.to(device).train(),
        lambda net: transport.training_losses(net, x0, {"y": y})["loss"],
        device,
    )


def loop_body(
    net: nn.Module, losses: Callable[[nn.Module], Tensor], device: torch.device, half: bool = False
) -> Step:
    """A step as the train.py of all three has it."""
    as_released(device)
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)

    def step() -> None:
        with torch.autocast(device.type, torch.float16, enabled=half):
            loss = losses(net).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        update_ema(ema, net)
        loss.item()

    return step


def of_diffusers(run: Run, device: torch.device) -> Step:
    """diffusers' DiTTransformer2DModel, noise-prediction loss, fused AdamW, diffusers' EMA."""
    from diffusers import DiTTransformer2DModel
    from diffusers.training_utils import EMAModel

    model = DITS[run.model]
    net: Any = DiTTransformer2DModel(
        num_attention_heads=model.heads,
        attention_head_dim=model.width // model.heads,
        in_channels=4,
        out_channels=8,
        num_layers=model.depth,
        sample_size=32,
        patch_size=model.patch,
        num_embeds_ada_norm=1000,
    )
    net.to(device).train()
    ema = EMAModel(net.parameters(), decay=0.9999)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, weight_decay=0)
    x0, t, y, noise = batch(run, device)

    def step() -> None:
        loss = ((net(x0, t, y).sample.chunk(2, dim=1)[0] - noise) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.step(net.parameters())
        loss.item()

    return step


def makers(args: argparse.Namespace, run: Run, device: torch.device) -> Makers:
    """What is compared, the reference first where it is given."""
    peers = {"facebookresearch/DiT": args.dit, "fast-DiT": args.fast_dit}
    found: Makers = {n: partial(released, f, run, device) for n, f in peers.items() if f}
    found["diffusers"] = partial(of_diffusers, run, device)
    for precision in args.precisions:
        mine = Run(**run.canonical() | {"precision": precision})
        found[f"harness {precision}"] = partial(ours, mine, device, False)
        if args.compile:
            found[f"harness {precision} compiled"] = partial(ours, mine, device, True)
    return found


def main() -> None:
    args = options(__doc__).parse_args()
    device = head(args)
    for model in args.models:
        run = Run(model=model, precision="fp32", batch_size=args.batch)
        table(
            model,
            makers(args, run, device),
            6e9 * gflops(run) * args.batch,
            args.batch,
            args,
            device,
        )


if __name__ == "__main__":
    main()
