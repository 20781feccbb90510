"""The output of every network beside its authors' code: `parity_models.py --u-vit DIR [--help]`.

Both get the same random weights, none zero, and the same input. A difference is relative: the
largest one over the largest output; of MDT that of both passes. Beside it, images a second of a
forward and backward pass, in turns. The peers need more: `pip install --no-deps -t SITE timm
einops`, then PYTHONPATH=SITE.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from sides import imported
from torch import Tensor, nn

from harness.models import MODELS, Setting

LATENT = Setting((4, 32, 32), 1000, 2)
PLAIN = Setting((4, 32, 32), 1000, 1)
PEERS = {
    "dit": "facebookresearch/DiT",
    "u-vit": "baofff/U-ViT",
    "mdt": "sail-sg/MDT, main",
    "mdt-v1": "sail-sg/MDT, branch mdtv1",
    "adm": "openai/guided-diffusion",
}
Pair = tuple[str, Setting, nn.Module]  # a row, its setting, the authors' network


def randomise(net: nn.Module) -> None:
    """Draws every weight, so that nothing is hidden behind a zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.copy_(p + 0.02 * torch.randn_like(p))


def dit(module: Callable[[str], Any]) -> Iterator[Pair]:
    models = module("models").DiT_models
    yield "DiT-S/2", LATENT, models["DiT-S/2"](input_size=32, num_classes=1000)


def u_vit(module: Callable[[str], Any]) -> Iterator[Pair]:
    made = module("libs.uvit").UViT
    for name in ("U-ViT-S/2", "U-ViT-S-deep/4", "U-ViT-H/4"):
        row: Any = MODELS[name]
        yield (
            name,
            PLAIN,
            made(
                img_size=32,
                patch_size=row.patch,
                in_chans=4,
                embed_dim=row.width,
                depth=row.depth,
                num_heads=row.heads,
                num_classes=1001,
                conv=row.conv,
            ),
        )


def mdt(module: Callable[[str], Any]) -> Iterator[Pair]:
    made = module("masked_diffusion.models").MDTv2_S_2
    yield "MDTv2-S/2", LATENT, made(mask_ratio=0.3, decode_layer=6)


def mdt_v1(module: Callable[[str], Any]) -> Iterator[Pair]:
    made = module("masked_diffusion.models").MDT_S_2
    yield "MDTv1-S/2", LATENT, made(mask_ratio=0.3, decode_layer=2)


def adm(module: Callable[[str], Any]) -> Iterator[Pair]:
    util = module("guided_diffusion.script_util")
    for name, side, more in (
        ("ADM-64", 64, {"num_channels": 192, "num_res_blocks": 3, "use_new_attention_order": True}),
        ("ADM-128", 128, {"num_channels": 256, "num_heads": 4, "num_head_channels": -1}),
    ):
        flags = util.model_and_diffusion_defaults() | {
            "image_size": side,
            "attention_resolutions": "32,16,8",
            "class_cond": True,
            "learn_sigma": True,
            "num_head_channels": 64,
            "resblock_updown": True,
        }
        net, _ = util.create_model_and_diffusion(**flags | more)
        yield name, Setting((3, side, side), 1000, 2), net


MAKERS = {"dit": dit, "u-vit": u_vit, "mdt": mdt, "mdt-v1": mdt_v1, "adm": adm}


def inputs(setting: Setting, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    x = torch.randn(batch, *setting.shape)
    return x, torch.randint(1000, (batch,)), torch.randint(setting.classes, (batch,))


def seconds(net: nn.Module, given: tuple[Tensor, ...], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        net(*given).square().mean().backward()
        found.append(time.perf_counter() - began)
    return found


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, peer in PEERS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"a checkout of {peer}")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(f"{'model':<16}{'difference':>12}{'theirs':>9}{'ours':>9}  images/s, forward + backward")
    for name, maker in MAKERS.items():
        if (folder := getattr(args, name.replace("-", "_"))) is None:
            continue
        with imported(folder) as module, contextlib.redirect_stdout(io.StringIO()):
            pairs = list(maker(module))
        for model, setting, theirs in pairs:
            compare(model, setting, theirs, args)


def compare(model: str, setting: Setting, theirs: nn.Module, args: argparse.Namespace) -> None:
    """Loads their weights into ours, and prints the line of both."""
    randomise(theirs)
    ours = MODELS[model].build(setting)
    weights = {k: x for k, x in theirs.state_dict().items() if not k.endswith("position_index")}
    ours.load_state_dict(weights)
    x, t, y = inputs(setting, args.batch)
    with torch.no_grad():
        apart = relative(theirs.eval()(x, t, y), ours.eval()(x, t, y))
        if model.startswith("MDT"):
            apart = max(apart, relative(*masked(theirs, ours, x, t, y)))
    both = [seconds(net, (x, t, y), 1 + args.rounds)[1:] for net in (theirs, ours)]
    speeds = [args.batch / statistics.median(spent) for spent in both]
    print(f"{model:<16}{apart:>12.1e}{speeds[0]:>9.2f}{speeds[1]:>9.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
