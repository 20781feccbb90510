"""Objectives: OBJECTIVES, a table of rows: what is predicted, how it is trained and sampled."""

from __future__ import annotations

from harness.objectives.rows import OBJECTIVES, SAMPLERS, TIMESTEPS, Objective, Process

__all__ = ["OBJECTIVES", "SAMPLERS", "TIMESTEPS", "Objective", "Process"]
