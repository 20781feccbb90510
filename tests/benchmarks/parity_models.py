"""The output of every network beside its authors' code: `parity_models.py --u-vit DIR [--help]`.

Both have the same random weights, none zero, and the same input; a difference is relative, the
largest one over the largest output, of MDT over both passes. See authors.py for what to install.
"""

from __future__ import annotations

import argparse
import gc
from typing import Any

import torch
from authors import AUTHORS, add_checkouts, built, checkout
from torch import Tensor, nn

from harness.models import MODELS, Setting

LATENT = Setting((4, 32, 32), 1000, 2)
PLAIN = Setting((4, 32, 32), 1000, 1)
CLIP = Setting((4, 4, 32, 32), 101, 2, variant="factorised")
U_VITS = "S/2 S-deep/2 S-deep/4 M/2 M/4 L/2 H/2 H/4".split()


def pixels(side: int) -> Setting:
    return Setting((3, side, side), 1000, 2)


# By repository: our names and what they are built for; and where a smaller input than that is
# enough for a U-Net, whose weights do not know of it, its side.
MODELS_OF: dict[str, dict[str, Setting]] = {
    "dit": dict.fromkeys(("DiT-S/2", "DiT-B/4", "DiT-L/8", "DiT-XL/2"), LATENT),
    "sit": dict.fromkeys(("DiT-S/2", "DiT-XL/2"), LATENT),
    "u-vit": {f"U-ViT-{name}": PLAIN for name in U_VITS},
    "mdt-v1": {f"MDTv1-{size}/2": LATENT for size in ("S", "B", "L", "XL")},
    "mdt": {f"MDTv2-{size}/2": LATENT for size in ("S", "B", "L", "XL")},
    "adm": {
        **{f"ADM-{side}": pixels(side) for side in (64, 128, 256, 512)},
        **{f"ADM-U-{side}": pixels(side) for side in (256, 512)},
    },
    "ldm": {
        "LDM-4": Setting((3, 64, 64), 1000, 1),
        "LDM-8": PLAIN,
    },
    "latte": {f"video-DiT-{size}/1x2": CLIP for size in ("S", "B")},
}
SIDES = {"ADM-256": 64, "ADM-512": 64, "ADM-U-256": 64, "ADM-U-512": 64}


def randomise(net: nn.Module) -> None:
    """Draws every weight, so that nothing is hidden behind a zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.02 * torch.randn_like(p))


def inputs(setting: Setting, side: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(batch, *setting.shape[:-2], side, side)
    return x, torch.randint(1000, (batch,)), torch.randint(setting.classes, (batch,))


def relative(theirs: Tensor, ours: Tensor) -> float:
    """SiT leaves out the variance, for which its last layer has channels."""
    apart = theirs - ours[:, : theirs.shape[1]]
    return float(apart.abs().max() / theirs.abs().max())


def masked(theirs: Any, ours: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The masked pass of MDT, with the same tokens hidden."""
    order = torch.stack([torch.randperm(256) for _ in x])
    kept = order[:, :160]

    def random_masking(tokens: Tensor, ratio: object) -> tuple[Tensor, ...]:
        seen = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        hidden = torch.ones(order.shape).scatter(1, kept, 0.0)
        return seen, hidden, order.argsort(dim=1), kept

    theirs.random_masking = random_masking
    twice = (torch.cat([v, v]) for v in (x, t, y))
    return theirs(x, t, y, enable_mask=True), ours(*twice, kept=kept)[len(x) :]


def same_weights(name: str, model: str, setting: Setting, theirs: nn.Module) -> nn.Module:
    """Ours on their tensors: a second copy of the largest would take 3 GB."""
    with torch.device("meta"):
        ours = MODELS[model].build(setting)
    weights = AUTHORS[name].weights(theirs.state_dict(), model)
    ours.load_state_dict(weights, assign=True)
    return ours.eval()


def difference(name: str, model: str, setting: Setting, args: argparse.Namespace) -> float:
    folder = checkout(args, name)
    assert folder is not None
    theirs: Any = built(name, folder, model, setting).eval()
    randomise(theirs)
    ours = same_weights(name, model, setting, theirs)
    given = inputs(setting, SIDES.get(model, setting.size), args.batch)
    with torch.no_grad():
        apart = relative(AUTHORS[name].call(theirs, *given), ours(*given))
        if model.startswith("MDT"):
            apart = max(apart, relative(*masked(theirs, ours, *given)))
    return apart


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_checkouts(parser)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--models", nargs="+", help="these alone")
    args = parser.parse_args()
    for name, models in MODELS_OF.items():
        for model, setting in models.items() if checkout(args, name) else ():
            if args.models and model not in args.models:
                continue
            apart = difference(name, model, setting, args)
            print(f"{AUTHORS[name].repository:<34}{model:<20}{apart:>9.1e}", flush=True)
            gc.collect()


if __name__ == "__main__":
    main()
