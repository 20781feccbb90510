"""The VAE: pixels to latents and back through AutoencoderKL; the identity for pixel-space data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.models.decoders import PUBLISHED_DECODERS

# fp32 latents [N, C, h, w] → fp32 pixels [N, 1 or 3, H, W] in [-1, 1], or a little beyond
Decoder = Callable[[Tensor], Tensor]
ENCODING = ("encoder.", "quant_conv.")  # the tensors that latents depend on


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] → 0 … 255 as ADM writes it; without the clamp values would wrap around."""
    return (127.5 * x + 128).clamp(0, 255).to(torch.uint8)


def identity(x: Tensor) -> Tensor:
    """The decoder of data that are pixels already."""
    return x


def load_vae(name: str, path: Path | None = None) -> Any:
    """The AutoencoderKL `name` in fp32, from the folder `path` or else from the hub.

    Raises:
        UserError: no such weights here, with where they are looked for.
    """
    import harness.base.torchvision_ops  # noqa: F401, I001  # diffusers imports torchvision
    from diffusers import AutoencoderKL

    published = PUBLISHED_DECODERS[name]
    source = str(path or published.repo)
    given: dict[str, Any] = {"torch_dtype": torch.float32, "use_safetensors": True}
    if published.subfolder and not path:
        given["subfolder"] = published.subfolder
    try:  # low_cpu_mem_usage = True wants accelerate
        vae = AutoencoderKL.from_pretrained(source, low_cpu_mem_usage=False, **given)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"VAE {name!r} is not at {source}: {reason}; set paths.{name} in the cluster file"
        ) from None
    return vae.eval().requires_grad_(False)


def encoder_digest(vae: Any) -> str:
    """SHA-256 of the encoder's weights by name: decoders trained with one encoder share it."""
    return weights_digest(vae, lambda name: name.startswith(ENCODING))


def decoder_digest(vae: Any) -> str:
    """SHA-256 of the decoder's weights by name: what the pixels of an image depend on."""
    return weights_digest(vae, lambda name: not name.startswith(ENCODING))


def weights_digest(vae: Any, chosen: Callable[[str], bool]) -> str:
    digest = hashlib.sha256()
    for name, x in sorted(vae.state_dict().items()):
        if chosen(name):
            digest.update(name.encode() + x.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def decoder_of(vae: Any, device: torch.device) -> Decoder:
    """The decoder of a VAE on `device`. It takes much memory an image: give it a few at a time."""
    vae = vae.to(device)

    def decode(latents: Tensor) -> Tensor:
        pixels: Tensor = vae.decode(latents.float() / vae.config.scaling_factor).sample
        return pixels

    return decode
