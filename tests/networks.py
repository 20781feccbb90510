"""What tests of networks share: built, with every weight moved, and inputs for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from harness.models import MODELS, Setting, flops
from harness.models.rows import Counts
from harness.models.unet_rows import LatentUNetModel

DIGITS = Setting((1, 8, 8), 10, 1)
TINY_LDM = LatentUNetModel(
    "LDM", "tiny", width=8, mult=(1, 2), blocks=1, attention=(4,), head_width=4, groups=4
)
IMAGES = {"data": "digits8", "objective": "ddpm-fixed"}  # noise alone, which all can predict
CLIPS = {"data": "moving-digits"}
# The fields of a small run of every family, and of each variant of DiT that is other code.
SMALL_RUNS: dict[str, dict[str, Any]] = {
    "U-ViT": {"model": "digit-U-ViT-S/4"} | IMAGES,
    "DiffiT": {"model": "digit-DiffiT-S/2"} | IMAGES,
    "MDTv1": {"model": "digit-MDTv1-S/2"} | IMAGES,
    "MDTv2": {"model": "digit-MDTv2-S/2"} | IMAGES,
    "U-Net": {"model": "digit-U-Net-S"} | IMAGES,
    "LDM": {"model": "tiny-LDM"} | IMAGES,
    "TMSA": {"model": "digit-DiT-B/4", "conditioning": "TMSA"} | IMAGES,
    "modern": {"model": "digit-DiT-B/4", "variant": "modern"} | IMAGES,
    "long-skips": {"model": "digit-DiT-L/4", "variant": "long-skips"} | IMAGES,
    "mdt-positions": {"model": "digit-DiT-B/4", "variant": "mdt-positions"} | IMAGES,
    "video": {"model": "digit-video-DiT-S/4x4"} | CLIPS,
    "factorised": {"model": "digit-video-DiT-L/4x4", "variant": "factorised"} | CLIPS,
}
# Those of several processes: to import diffusers in each takes seconds.
SHARED = {name: fields for name, fields in SMALL_RUNS.items() if name != "LDM"}


def pixels(side: int) -> Setting:
    return Setting((3, side, side), 1000, 2)


# ADM's parameters and Gflops, as counted of its code.
PIXELS = {
    "ADM-64": (pixels(64), 295_904_454, 109.86),
    "ADM-128": (pixels(128), 421_529_606, 307.46),
    "ADM-256": (pixels(256), 553_838_086, 1121.9),
    "ADM-512": (pixels(512), 558_997_638, 1987.5),
    "ADM-U-256": (pixels(256), 311_795_910, 633.2),
    "ADM-U-512": (pixels(512), 308_835_270, 2510.9),
}


def built(name: str, setting: Setting = DIGITS, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return MODELS[name].build(setting).eval()


def awake(net: Any) -> Any:
    """The network after training has moved every weight."""
    with torch.no_grad():
        for p in net.parameters():
            if p.requires_grad:
                p.add_(0.05 * torch.randn_like(p))
    return net


def inputs(setting: Setting = DIGITS, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, *setting.shape), torch.randint(1000, (n,)), torch.randint(10, (n,))


def saved_bytes(net: Any, *given: Tensor, **more: Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, the weights themselves left out."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def keep(x: Tensor) -> Tensor:
        found[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        net(*given, **more)
    return sum(storage.nbytes() for key, storage in found.items() if key not in weights)


def measured_counts(net: Any, setting: Setting) -> Counts:
    """What fvcore counts of it."""
    macs = flops.macs(net, setting.shape)["total"]
    return Counts(macs, sum(p.numel() for p in net.parameters()))
