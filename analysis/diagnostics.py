"""Whether the residuals of the joint law refute it: bends, unequal noise, normality."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from analysis.comparison import holm
from analysis.correlation import Array
from analysis.joint import Joint, Whole
from analysis.joint_search import jacobian, terms_of

# What a law of this form cannot have: products and squares of log N, T, D, by what they would mean.
BENDS = {
    "the gain from size differs by tokens": (0, 1),
    "the gain from size differs by images": (0, 2),
    "the gain from tokens differs by images": (1, 2),
    "a bend in size": (0, 0),
    "a bend in images": (2, 2),
}


def bends(joint: Joint) -> pd.DataFrame:
    """Tests terms that the law lacks by their score, robust to runs whose checkpoints agree.

    Columns: term, t, p (Holm over the terms). A term is orthogonal to the law's own derivatives;
    its score is summed within each run, and t is over the runs.
    """
    points, own = joint.points, inner_slopes(joint)
    found = []
    for term, (i, j) in BENDS.items():
        column = points.x[i] * points.x[j]
        rest = column - own @ np.linalg.lstsq(own, column, rcond=1e-10)[0]
        if np.abs(rest).max() > 1e-6 * max(np.abs(column).max(), 1e-300):
            found.append({"term": term, "t": clustered_t(rest * joint.residuals, points.run)})
    df = points.runs - int(joint.free.sum())
    frame = pd.DataFrame(found, columns=["term", "t"])
    p = 2 * stats.t.sf(frame["t"].abs().to_numpy(float), df)
    return frame.assign(p=holm(p)).sort_values("p", ignore_index=True)


def inner_slopes(joint: Joint) -> Array:
    """Returns the derivatives of the law by the parameters that are inside their limits."""
    low, high = joint.limits
    inside = (joint.theta > low) & (joint.theta < high)
    slopes = jacobian(terms_of(joint.theta, joint.points.x), joint.points.x)[:, inside]
    return np.column_stack([slopes, np.ones(len(slopes))])


def clustered_t(scores: Array, run: Whole) -> float:
    """Returns the sum of scores by its standard error, over the sums of the runs."""
    sums = np.bincount(run, scores)
    count = len(sums)
    spread = np.sqrt(count * sums.var(ddof=1))
    return float(sums.sum() / spread) if spread > 0 else 0.0


def unequal_noise(joint: Joint) -> dict[str, tuple[float, float]]:
    """Returns Spearman's correlation of the runs' mean |residual| with N, T, D: (value, p)."""
    points = joint.points
    frame = pd.DataFrame(dict(zip("NTD", points.x, strict=True)))
    frame = frame.assign(residual=np.abs(joint.residuals), run=points.run).groupby("run").mean()
    varied = [name for name in "NTD" if np.ptp(frame[name]) > 1e-6]
    tests = {name: stats.spearmanr(frame[name], frame["residual"]) for name in varied}
    return {name: (float(test.statistic), float(test.pvalue)) for name, test in tests.items()}


def normality(joint: Joint) -> float:
    """Returns p of Shapiro and Wilk's test of the runs' mean residuals."""
    count = np.bincount(joint.points.run)
    return float(stats.shapiro(np.bincount(joint.points.run, joint.residuals) / count).pvalue)


def diagnosis(joint: Joint) -> str:
    """States the strongest evidence against the law and its noise, or that there is none."""
    tests = bends(joint)
    parts = [
        f"refuted: {row['term']} (score test over runs, p = {row['p']:.2g})"
        for _, row in tests[tests["p"] < 0.05].head(1).iterrows()
    ]
    parts = parts or ["no bend found" if len(tests) else "nothing left to test its form"]
    parts += [
        f"noise changes with {name} (Spearman {value:.2f}, p = {p:.2g})"
        for name, (value, p) in unequal_noise(joint).items()
        if p < 0.05
    ]
    p = normality(joint)
    return "; ".join(parts + ([f"residuals not normal (p = {p:.2g})"] if p < 0.05 else []))
