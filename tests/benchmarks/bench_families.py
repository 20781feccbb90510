"""Every family beside its authors' code, a training step and a forward: `--u-vit DIR [--help]`.

A step is network, loss, backward, optimizer and EMA: ours as harness.training.loop calls it, theirs
as bench_training.loop_body has it (AdamW with defaults, an EMA weight by weight, loss.item()),
without their logging and loading, at the paper's recipe of neither. A forward is one of the network
for sampling, without gradients. See authors.py for what to install.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from authors import AUTHORS, add_checkouts, built, checkout
from bench_training import loop_body
from sides import Makers, Step, head, imported, options, table
from torch import Tensor

from harness.base.distributed import Rank, keep_freed_memory
from harness.bench.workloads import RandomLatents
from harness.data import DATASETS, Data
from harness.objectives import TIMESTEPS
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.compute import gflops, network, training_gflops
from harness.training.loop import make_batch
from harness.training.step import new_state, stepper

DATASETS["latent clips"] = Data(4, 32, 101, frames=4)  # Latte's, at a quarter of its frames
RUNS = {
    "dit": [Run(model="DiT-S/2")],
    "sit": [Run(model="DiT-S/2", objective="flow")],
    "u-vit": [Run(model="U-ViT-S/2", objective="ddpm-fixed")],
    "mdt-v1": [Run(model="MDTv1-S/2")],
    "mdt": [Run(model="MDTv2-S/2")],
    "adm": [Run(model="ADM-64-narrow", data="imagenet64-pixels")],
    "ldm": [Run(model="LDM-8-narrow", objective="ddpm-fixed")],
    "latte": [Run(model="video-DiT-S/1x2", data="latent clips", variant="factorised")],
}


def given(run: Run, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """x, t, y."""
    x = torch.randn(run.batch_size, *run.setting.shape, device=device)
    t = torch.randint(TIMESTEPS, (run.batch_size,), device=device)
    return x, t, torch.randint(run.setting.classes, (run.batch_size,), device=device)


def our_step(run: Run, device: torch.device, compiled: bool) -> Step:
    keep_freed_memory()
    dataset = RandomLatents(run, device)
    optimise = stepper(run, new_state(run, device), Cluster(compile=compiled), Rank(0, 1, device))
    drawn = (make_batch(run, dataset, device, 1, 0, run.batch_size) for _ in iter(int, 1))
    return lambda: optimise(1, drawn)


def their_step(name: str, folder: Path, run: Run, device: torch.device) -> Step:
    net = built(name, folder, run.model, run.setting).to(device).train()
    with imported(folder) as module:
        losses = AUTHORS[name].losses(module)
    batch = given(run, device)
    return loop_body(net, lambda net: losses(net, *batch), device)


def our_forward(run: Run, device: torch.device, compiled: bool) -> Step:
    net, batch = network(run).to(device).eval(), given(run, device)
    forward = torch.compile(net) if compiled else net
    return torch.no_grad()(lambda: forward(*batch))


def their_forward(name: str, folder: Path, run: Run, device: torch.device) -> Step:
    net, batch = built(name, folder, run.model, run.setting).to(device).eval(), given(run, device)
    return torch.no_grad()(lambda: AUTHORS[name].call(net, *batch))


def compared(name: str, run: Run, args: argparse.Namespace, device: torch.device) -> None:
    """Prints the tables of a run: a step, then a forward."""
    folder, peer = checkout(args, name), AUTHORS[name].repository.partition(",")[0]
    assert folder is not None
    work = 2e9 * args.batch
    for what, theirs, ours, macs in (
        ("step", their_step, our_step, training_gflops(run)),
        ("forward", their_forward, our_forward, gflops(run)),
    ):
        makers: Makers = {peer: partial(theirs, name, folder, run, device)}
        makers["harness"] = partial(ours, run, device, False)
        if args.compile:
            makers["harness compiled"] = partial(ours, run, device, True)
        table(f"{run.model} {what}", makers, work * macs, args.batch, args, device)


def main() -> None:
    parser = options(__doc__)
    add_checkouts(parser)
    parser.set_defaults(models=None, batch=2)
    args = parser.parse_args()
    device = head(args)
    for name, runs in RUNS.items():
        for run in runs if checkout(args, name) else ():
            if args.models is None or run.model in args.models:
                fields = run.canonical() | {"precision": "fp32", "batch_size": args.batch}
                compared(name, Run(**fields), args, device)


if __name__ == "__main__":
    main()
