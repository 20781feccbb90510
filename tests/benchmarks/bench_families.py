"""Every family beside its authors' code, a training step and a forward: `--u-vit DIR [--help]`.

A step is network, loss, backward, optimizer and EMA: ours as harness.training.loop calls it, theirs
as bench_training.loop_body has it (AdamW with defaults, an EMA weight by weight, loss.item()),
without their logging and loading, at the paper's recipe of neither. A forward is one of the network
for sampling, without gradients. See authors.py for what to install.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from authors import AUTHORS, Call, Module, add_checkouts, built, checkout
from bench_training import loop_body
from sides import Makers, Step, head, imported, options, table
from torch import Tensor, nn

from harness.base.distributed import Rank, keep_freed_memory
from harness.bench.workloads import RandomLatents
from harness.data import DATASETS, Data
from harness.objectives import TIMESTEPS
from harness.objectives.ddpm import DDPM
from harness.spec import Run
from harness.study.cluster import Cluster
from harness.study.compute import gflops, network, training_gflops
from harness.training.loop import make_batch
from harness.training.step import new_state, stepper

Loss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]  # (network, x0, t, y) → [N]
Losses = Callable[[Module], Loss]

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


def hybrid(create: str, passes: int = 1, **given: Any) -> Losses:
    """The loss of DiT's, MDT's and ADM's code: noise and variance.

    create: where their diffusion is made; passes: MDT's loss is that of the full pass and that of
    the masked one, each with noise of its own.
    """

    def prepare(module: Module) -> Loss:
        package, _, function = create.rpartition(".")
        diffusion = getattr(module(package), function)(**given)

        def loss(net: nn.Module, x0: Tensor, t: Tensor, y: Tensor) -> Tensor:
            words = [{"y": y}, {"y": y, "enable_mask": True}][:passes]
            each = [diffusion.training_losses(net, x0, t, word)["loss"] for word in words]
            return torch.stack(each).sum(0)

        return loss

    return prepare


def velocity(module: Module) -> Loss:
    transport = module("transport").create_transport()
    return lambda net, x0, t, y: transport.training_losses(net, x0, {"y": y})["loss"]


def simple(module: Module) -> Loss:
    """U-ViT's: noise alone; times are drawn within."""
    sde = module("sde")

    def loss(net: nn.Module, x0: Tensor, t: Tensor, y: Tensor) -> Tensor:
        with contextlib.redirect_stdout(io.StringIO()):
            model = sde.ScoreModel(net, pred="noise_pred", sde=sde.VPSDE())
        return sde.LSimple(model, x0, pred="noise_pred", y=y)

    return loss


def of_harness(learned: bool, call: Call) -> Losses:
    """The harness's DDPM loss, where the trainer needs more than is installed here."""

    def prepare(module: Module) -> Loss:
        terms = DDPM(learned_variance=learned).losses(torch.device("cpu"))

        def loss(net: nn.Module, x0: Tensor, t: Tensor, y: Tensor) -> Tensor:
            return torch.stack(terms(partial(call, net), x0, t, y, torch.randn_like(x0))).sum(0)

        return loss

    return prepare


MDT = hybrid("masked_diffusion.create_diffusion", 2, timestep_respacing="")
LOSSES: dict[str, Losses] = {
    "dit": hybrid("diffusion.create_diffusion", timestep_respacing=""),
    "sit": velocity,
    "u-vit": simple,
    "mdt-v1": MDT,
    "mdt": MDT,
    "adm": hybrid("guided_diffusion.script_util.create_gaussian_diffusion", learn_sigma=True),
    "ldm": of_harness(False, AUTHORS["ldm"].call),
    "latte": of_harness(True, AUTHORS["latte"].call),
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
        losses = LOSSES[name](module)
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
