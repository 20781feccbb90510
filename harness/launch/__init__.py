"""Runs tasks, on this machine or on Slurm."""
