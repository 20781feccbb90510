"""Checkpoints → values."""
