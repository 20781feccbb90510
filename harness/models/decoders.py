"""Where each named VAE is published, and the digest of its decoder where known. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A VAE on the Hugging Face hub; `digest` is autoencoder.decoder_digest of its weights."""

    repo: str
    subfolder: str = ""
    digest: str | None = None  # None: not measured yet, and not compared


# The three share one encoder (paper, section 4 and Table 5).
PUBLISHED_DECODERS = {
    "ft-mse": Published("stabilityai/sd-vae-ft-mse"),
    "ft-ema": Published("stabilityai/sd-vae-ft-ema"),
    "original": Published("CompVis/stable-diffusion-v1-4", "vae"),
}
