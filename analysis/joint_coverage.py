"""How often the joint law's intervals hold the truth, planted at a study's own runs and steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.joint import PARAMETERS, Joint, fit, points_from
from analysis.joint_bootstrap import bootstrap, intervals
from analysis.next_run import noise_parts
from analysis.rows import Row, row_of

RESAMPLES = 400


def coverage(joint: Joint, draws: int, seed: int = 0) -> pd.Series:
    """Returns the share of planted studies in which each interval holds its parameter.

    They have the study's own runs and steps, its fitted law as the truth, and its own noise of
    runs and of scores, normal. It tells whether the intervals are honest where the law is true,
    not whether it is true.
    """
    rng, points = np.random.default_rng(seed), joint.points
    of_run, of_score = noise_parts(joint.residuals, points, int(joint.free.sum()))
    law, hits = points.y - joint.residuals, []
    for _ in range(draws):
        own = of_run * rng.standard_normal(points.runs)
        noise = own[points.run] + of_score * rng.standard_normal(len(law))
        planted = fit(points_from(points.rows.assign(value=np.exp(law + noise))))
        known = intervals(bootstrap(planted, RESAMPLES))
        hits.append({name: holds(joint, name, bounds) for name, bounds in known.items()})
    return pd.DataFrame(hits).mean()


def holds(joint: Joint, name: str, bounds: tuple[float, float, bool]) -> bool:
    """Whether an interval holds the planted parameter; a term below its limit is 0."""
    place = PARAMETERS.index(name)
    theta = joint.theta[place]
    if place > 2:
        return bool(bounds[0] <= theta <= bounds[1])
    value = 0.0 if theta <= joint.limits[0][place] + 1e-6 else np.exp(theta)
    return bool(bounds[0] <= value <= bounds[1])


def coverage_rows(joints: dict[str, Joint], draws: int) -> list[Row]:
    """States the coverage of each law's parameters."""
    rows = list[Row]()
    for label, joint in joints.items():
        for name, share in coverage(joint, draws).items():
            text = f"{label}: share of planted studies whose interval holds {name}"
            rows.append(row_of(text, share, None, ".0%", f"{draws} draws", joint.points.runs))
    return rows
