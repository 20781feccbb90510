"""The VAE: pixels to latents and back through diffusers' AutoencoderKL; the identity for pixel-space data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError

Decoder = Callable[[Tensor], Tensor]  # fp32 latents [N, C, h, w] → uint8 pixels [N, 1 or 3, H, W]

# Where each named decoder is published; the three share one encoder (paper, section 4 and Table 5).
HUB = {
    "ft-mse": "stabilityai/sd-vae-ft-mse",
    "ft-ema": "stabilityai/sd-vae-ft-ema",
    "original": "CompVis/stable-diffusion-v1-4",
}
ENCODING = ("encoder.", "quant_conv.")  # the tensors that latents depend on


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] → 0 … 255 as ADM writes it; without the clamp values would wrap around."""
    return (127.5 * x + 128).clamp(0, 255).to(torch.uint8)


def load_vae(name: str, path: Path | None = None) -> Any:
    """The AutoencoderKL `name` in fp32, from the folder `path` or else from the hub.

    Raises:
        ValueError: no such weights here, with where they are looked for.
    """
    import harness.base.torchvision_ops  # noqa: F401, I001  # diffusers' autoencoder imports torchvision
    from diffusers import AutoencoderKL

    source = str(path or HUB[name])
    given: dict[str, Any] = {"torch_dtype": torch.float32, "use_safetensors": True}
    if name == "original" and not path:
        given["subfolder"] = "vae"
    try:
        vae = AutoencoderKL.from_pretrained(
            source, low_cpu_mem_usage=False, **given
        )  # True wants accelerate
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"VAE {name!r} is not at {source}: {reason}; set paths.{name} in the cluster file"
        ) from None
    return vae.eval().requires_grad_(False)


def encoder_digest(vae: Any) -> str:
    """SHA-256 of the encoder's weights by name: decoders that were trained with one encoder share it."""
    digest = hashlib.sha256()
    for name, x in sorted(vae.state_dict().items()):
        if name.startswith(ENCODING):
            digest.update(name.encode() + x.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def decoder_of(vae: Any, device: torch.device, batch: int = 16) -> Decoder:
    """Decodes fp32 latents with the VAE on `device`, `batch` images at a time."""
    vae = vae.to(device)

    def decode(latents: Tensor) -> Tensor:
        scaled = latents.float() / vae.config.scaling_factor
        return torch.cat([to_uint8(vae.decode(part).sample) for part in scaled.split(batch)])

    return decode
