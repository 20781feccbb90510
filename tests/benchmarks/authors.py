"""The authors' networks by our names, from checkouts given by path, for parity and speed.

They need more than is installed here: `pip install --no-deps -t SITE timm einops absl-py omegaconf
antlr4-python3-runtime==4.9.3`, then PYTHONPATH=SITE.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sides import imported
from torch import Tensor, nn

from harness.models import MODELS, Setting
from harness.models.unet_rows import LatentUNetModel, UNetModel

Module = Callable[[str], Any]  # imports one of a checkout's modules
Call = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]  # (network, x, t, y) → its output

# U-Nets narrow enough to train beside the authors' in a few GB; all else is the paper's.
MODELS["ADM-64-narrow"] = UNetModel(
    "ADM", "64-narrow", width=64, mult=(1, 2, 3, 4), blocks=3, split=True
)
MODELS["LDM-8-narrow"] = LatentUNetModel(
    "LDM", "8-narrow", width=64, mult=(1, 2, 4), head_width=32, side=32
)


def same_names(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {k: x for k, x in weights.items() if not k.endswith("position_index")}


def plain(net: nn.Module, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return net(x, t, y)


@dataclass(frozen=True)
class Author:
    """A public repository and how to build its networks.

    build: (module, our name, setting) → the network; weights: from its state dict to ours; call:
    gives the network what ours is given.
    """

    repository: str
    build: Callable[[Module, str, Setting], nn.Module]
    weights: Callable[[dict[str, Tensor], str], dict[str, Tensor]] = same_names
    call: Call = plain


def dit(module: Module, name: str, setting: Setting) -> nn.Module:
    return module("models").DiT_models[name](input_size=32, num_classes=1000)


def sit(module: Module, name: str, setting: Setting) -> nn.Module:
    made = module("models").SiT_models[name.replace("DiT", "SiT")]
    return made(input_size=32, num_classes=1000)


def u_vit(module: Module, name: str, setting: Setting) -> nn.Module:
    row: Any = MODELS[name]
    return module("libs.uvit").UViT(
        img_size=setting.size,
        patch_size=row.patch,
        in_chans=setting.channels,
        embed_dim=row.width,
        depth=row.depth,
        num_heads=row.heads,
        num_classes=setting.classes + 1,
        conv=row.conv,
    )


def mdt(module: Module, name: str, setting: Setting) -> nn.Module:
    row: Any = MODELS[name]
    family = {1: "MDT", 2: "MDTv2"}[row.version]
    made = getattr(module("masked_diffusion.models"), f"{family}_{row.size}_2")
    return made(mask_ratio=0.3, decode_layer=row.decode)


def adm(module: Module, name: str, setting: Setting) -> nn.Module:
    util, row, side = module("guided_diffusion.script_util"), MODELS[name], setting.size
    assert isinstance(row, UNetModel)
    flags = util.model_and_diffusion_defaults() | {
        "image_size": side,
        "num_channels": row.width,
        "num_res_blocks": row.blocks,
        "num_heads": row.heads or 4,
        "num_head_channels": -1 if row.heads else row.head_width,
        "attention_resolutions": "32,16,8",
        "use_new_attention_order": row.split,
        "class_cond": True,
        "learn_sigma": True,
        "resblock_updown": True,
    }
    if not row.upsamples:
        return util.create_model_and_diffusion(**flags)[0]
    flags |= {"large_size": side, "small_size": side // 4}
    if side == 512:
        flags["attention_resolutions"] = "32,16"
    known = util.sr_model_and_diffusion_defaults()
    return util.sr_create_model_and_diffusion(**{k: flags.get(k, known[k]) for k in known})[0]


def ldm(module: Module, name: str, setting: Setting) -> nn.Module:
    row: Any = MODELS[name]
    levels = range(len(row.mult))
    net = module("ldm.modules.diffusionmodules.openaimodel").UNetModel(
        image_size=setting.size,
        in_channels=setting.channels,
        out_channels=setting.channels,
        model_channels=row.width,
        num_res_blocks=row.blocks,
        channel_mult=row.mult,
        attention_resolutions=[2**k for k in levels if setting.size >> k in row.attention],
        num_heads=row.heads or -1,
        num_head_channels=-1 if row.heads else row.head_width,
        use_spatial_transformer=True,
        context_dim=512,
    )
    net.class_embedding = nn.Embedding(1001, 512)  # its ClassEmbedder, beside the U-Net
    return net


def latte(module: Module, name: str, setting: Setting) -> nn.Module:
    """Without positions in time, which are added in another place: see docs/video.md."""
    size = MODELS[name].size
    net = module("latte").Latte_models[f"Latte-{size}/2"](
        num_frames=setting.frames, num_classes=setting.classes, extras=2
    )
    net.temp_embed.data.zero_()
    return net


def of_ldm(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """diffusers' names, by its own conversion."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    table = weights.pop("class_embedding.weight")
    prefixed = {f"model.diffusion_model.{k}": x for k, x in weights.items()}
    config = {
        "layers_per_block": MODELS[name].blocks,  # type: ignore[attr-defined]
        "class_embed_type": None,
        "addition_embed_type": None,
    }
    converted = convert_ldm_unet_checkpoint(prefixed, config)
    return {f"unet.{k}": x for k, x in converted.items()} | {"embedding.weight": table}


def with_class(net: Any, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return net(x, t, context=net.class_embedding(y)[:, None])


def labelled(net: Any, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """An upsampler sees zeros to enlarge, as ours does where it is given nothing."""
    low = {"low_res": torch.zeros_like(x)} if type(net).__name__ == "SuperResModel" else {}
    return net(x, t, y=y, **low)


def frames_first(net: Any, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    return net(x.transpose(1, 2), t, y).transpose(1, 2)


AUTHORS = {
    "dit": Author("facebookresearch/DiT", dit),
    "sit": Author("willisma/SiT", sit),
    "u-vit": Author("baofff/U-ViT", u_vit),
    "mdt-v1": Author("sail-sg/MDT, branch mdtv1", mdt),
    "mdt": Author("sail-sg/MDT, main", mdt),
    "adm": Author("openai/guided-diffusion", adm, call=labelled),
    "ldm": Author("CompVis/latent-diffusion", ldm, of_ldm, with_class),
    "latte": Author("Vchitect/Latte, its folder models", latte, call=frames_first),
}


def add_checkouts(parser: argparse.ArgumentParser) -> None:
    """An option for each repository that the parser has none for."""
    known = {word for action in parser._actions for word in action.option_strings}
    for name, author in AUTHORS.items():
        if f"--{name}" not in known:
            parser.add_argument(f"--{name}", type=Path, help=f"a checkout of {author.repository}")


def checkout(args: argparse.Namespace, name: str) -> Path | None:
    return getattr(args, name.replace("-", "_"))


def built(name: str, folder: Path, model: str, setting: Setting) -> nn.Module:
    """The authors' network of our name."""
    with imported(folder) as module, contextlib.redirect_stdout(io.StringIO()):
        return AUTHORS[name].build(module, model, setting)
