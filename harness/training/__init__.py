"""Latents → checkpoints."""
