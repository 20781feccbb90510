"""How clips of moving digits look frame by frame, and how well they keep the law of motion."""

from __future__ import annotations

import itertools

import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from harness.base.motion import FRAMES, PERIOD, SPEEDS, place
from harness.metrics.frechet import frechet_distance
from harness.metrics.reference import Features, Reference, moments
from harness.metrics.rows import Values


def frame_fid(features: Features, reference: Reference) -> Values:
    """Fréchet distance of single frames, whatever their order: it sees content and no motion."""
    ours, theirs = (moments(frames(x)) for x in (features["frames"], reference.features["frames"]))
    return {"frame_fid": frechet_distance(ours.mean, ours.sigma, theirs.mean, theirs.sigma)}


def frames(x: Tensor) -> Tensor:
    """Features of clips [N, F · D] as those of their frames [N · F, D]."""
    return x.unflatten(1, (FRAMES, -1)).flatten(0, 1)


def physics(features: Features, reference: Reference) -> Values:
    """motion_error and speed_distance, both in pixels: 0 of clips that keep the law.

    motion_error: the mean over clips of the distance, a frame, from the nearest lawful way.
    speed_distance: what separates the speeds along an axis from frame to frame from the
    reference's, as the 1-Wasserstein distance.
    """
    ours, theirs = (x["track"].unflatten(1, (FRAMES, 2)) for x in (features, reference.features))
    speeds = (track.diff(dim=1).abs().flatten().numpy() for track in (ours, theirs))
    error = deviation(ours.double()).mean()
    return {"motion_error": float(error), "speed_distance": float(wasserstein_distance(*speeds))}


def deviation(track: Tensor) -> Tensor:
    """The root mean square distance [N] of tracks [N, F, 2] from the nearest lawful way.

    The ink's centre lies anywhere in a digit's box: ways are compared without their mean.
    """
    path = track - track.mean(1, keepdim=True)
    apart = path.transpose(1, 2)[:, :, None] - lawful().to(path)  # [N, 2, ways, F]
    return apart.square().mean(3).amin(2).sum(1).sqrt()


def lawful() -> Tensor:
    """Every way along an axis less its mean, [ways, F]."""
    ways = [
        [place(start, speed, frame) for frame in range(FRAMES)]
        for speed, start in itertools.product(SPEEDS, range(PERIOD))
    ]
    found = torch.tensor(ways, dtype=torch.float64)
    return found - found.mean(1, keepdim=True)
