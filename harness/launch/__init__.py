"""A task finds a machine: this one, or Slurm's."""
