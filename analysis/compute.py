"""Compute of training a model and of drawing an image from it, in multiply-adds of its table."""

from __future__ import annotations

import pandas as pd

# Forwards of the network in a step of a sampler where they are not one; Dormand-Prince's at most.
FORWARDS = {"heun": 2, "dopri5": 6}


def training_compute(rows: pd.DataFrame) -> pd.Series:
    """Returns Gflops · batch · steps · 3, as in Figure 9: a backward pass costs two forward.

    Of a network that is trained with more than one pass of an image, all passes count.
    """
    passes = rows["passes"].fillna(1) if "passes" in rows else 1
    return rows["gflops"] * rows["batch_size"] * rows["step"] * 3 * passes


def sampling_compute(rows: pd.DataFrame) -> pd.Series:
    """Returns Gflops of drawing one image: every forward of every step, two where guided."""
    forwards = rows["sampler"].map(FORWARDS).fillna(1) * (1 + rows["guidance"].gt(1))
    return rows["gflops"] * rows["sampling_steps"] * forwards
