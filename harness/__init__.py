"""Scaling studies of diffusion transformers: plan, train, score, collect."""

__version__ = "0.1.0"
