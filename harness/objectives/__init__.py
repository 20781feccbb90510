"""Objectives: what a network predicts, how it is trained and sampled. No torch."""

SAMPLERS = ("ddpm", "ddim", "dpm-solver++")
TIMESTEPS = 1000  # the length of the training diffusion (paper, section 4)
