"""Images → latents, once."""
