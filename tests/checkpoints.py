"""Checkpoints as other programs write them, of small networks whose every weight has moved."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from harness.spec import Run
from harness.study.compute import network

LATENT = Run(model="mini-DiT-S/8")  # on latents of 32 × 32, as DiTPipeline decodes


def awake(run: Run, seed: int = 0) -> nn.Module:
    """A network in eval mode, no weight of which is as it was initialised but the positions."""
    torch.manual_seed(seed)
    net = network(run)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))
    return net.eval()


def weights(run: Run, seed: int = 0) -> dict[str, Tensor]:
    return {name: x.detach() for name, x in awake(run, seed).state_dict().items()}


def released(run: Run, path: Path, seed: int = 0) -> Path:
    """A flat state dict."""
    torch.save(weights(run, seed), path)
    return path


def of_train_py(run: Run, path: Path, **args: object) -> Path:
    """The four parts of train.py, after a step of its optimizer; the EMA is of another seed."""
    net = awake(run)
    optimizer = torch.optim.AdamW(net.parameters(), lr=run.lr, weight_decay=run.weight_decay)
    parts = {
        "model": net.state_dict(),
        "ema": weights(run, seed=1),
        "opt": optimizer.state_dict(),
        "args": argparse.Namespace(**args),
    }
    torch.save(parts, path)
    return path
