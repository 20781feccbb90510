"""Latents to pixels: the identity for pixel-space data, diffusers' AutoencoderKL for latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

Decoder = Callable[[Tensor], Tensor]  # fp32 latents [N, C, h, w] → uint8 pixels [N, 1 or 3, H, W]

# Where each named decoder is published; the three share one encoder (paper, section 4 and Table 5).
HUB = {
    "ft-mse": "stabilityai/sd-vae-ft-mse",
    "ft-ema": "stabilityai/sd-vae-ft-ema",
    "original": "CompVis/stable-diffusion-v1-4",
}


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] → 0 … 255 as ADM writes it; without the clamp values would wrap around."""
    return (127.5 * x + 128).clamp(0, 255).to(torch.uint8)


def load_decoder(name: str, device: torch.device, path: Path | None = None, batch: int = 16) -> Decoder:
    """The decoder `name`, from the folder `path` or else from the hub; it decodes in fp32, `batch` images at a time.

    Raises:
        ValueError: no such weights here, with where they are looked for.
    """
    if name == "identity":
        return to_uint8
    import harness.torchvision_ops  # noqa: F401, I001  # diffusers' autoencoder imports torchvision
    from diffusers import AutoencoderKL

    source, inside = str(path or HUB[name]), {"subfolder": "vae"} if name == "original" and not path else {}
    try:
        vae = AutoencoderKL.from_pretrained(source, torch_dtype=torch.float32, use_safetensors=True, **inside)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"decoder {name!r} is not at {source}: {reason}; set paths.{name} in the cluster file"
        ) from None
    vae = vae.to(device).eval().requires_grad_(False)

    def decode(latents: Tensor) -> Tensor:
        scaled = latents.float() / vae.config.scaling_factor
        return torch.cat([to_uint8(vae.decode(part).sample) for part in scaled.split(batch)])

    return decode
