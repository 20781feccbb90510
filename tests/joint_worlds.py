"""Planted joint laws: published solutions without noise, and studies with noise by run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.random import Generator
from studies import PAPER

from analysis import joint, joint_bootstrap, joint_search
from analysis.grid import final
from analysis.joint import PARAMETERS, Points

MODELS = final(PAPER)
STEPS = np.array([50e3, 100e3, 150e3, 200e3, 300e3, 400e3])
# E, A at 100M multiply-adds per token and 64 tokens, B at 50M images, α, γ, β.
REFERENCE = np.log([1e8, 64, 5e7])
LAW = np.array([5, 40, 15, 0.35, 0.5, 0.6])


def points(rows: pd.DataFrame) -> Points:
    return joint.points_from(rows)


def frame(n: np.ndarray, t: np.ndarray, d: np.ndarray, run: Sequence[object]) -> pd.DataFrame:
    """Rows of checkpoints; their Gflops are N T multiply-adds."""
    columns = {"N": n, "T": t, "D": d, "gflops": n * t / 1e9}
    return pd.DataFrame(columns).assign(
        run=[str(name) for name in run], model=[f"{x:.4g}" for x in n]
    )


def isoflops(budgets: np.ndarray, best: Callable[[float], float], spread: float) -> pd.DataFrame:
    """Nine sizes around the best of each budget, `spread` times it at the ends; one token a D."""
    pairs = [(c, best(c) * f) for c in budgets for f in np.geomspace(1 / spread, spread, 9)]
    c, n = np.array(pairs).T
    return frame(n, np.ones_like(n), c / (6 * n), range(len(n)))


def chinchilla(spread: float = 4) -> pd.DataFrame:
    rows = isoflops(np.geomspace(1e18, 1e22, 7), lambda c: 0.09 * c**0.5126, spread)
    loss = 1.81686 + 482.01 * rows["N"] ** -0.34781 + 2085.43 * rows["D"] ** -0.36585
    return rows.assign(value=loss)


def liang() -> pd.DataFrame:
    """A surface whose optima are Liang's lines: α = c / a, β = c / b, and the shares of L*."""
    alpha, beta = 0.0273 / 0.5681, 0.0273 / 0.4319
    a = 2.3943 * beta / (alpha + beta) * 0.0009**alpha
    b = 2.3943 * alpha / (alpha + beta) * 186.8535**beta
    rows = isoflops(np.geomspace(1e17, 6e18, 6), lambda c: 0.0009 * c**0.5681, 4)
    return rows.assign(value=a * rows["N"] ** -alpha + b * rows["D"] ** -beta)


def grid_rows(seeds: int = 1) -> pd.DataFrame:
    """The published twelve at six steps, by seed."""
    many = pd.concat([MODELS.assign(seed=seed) for seed in range(seeds)])
    rows = many.merge(pd.DataFrame({"at": STEPS}), how="cross")
    per_token = (1e9 * rows["gflops"] / rows["tokens"]).to_numpy()
    run = rows["model"] + rows["seed"].astype(str)
    return frame(per_token, rows["tokens"].to_numpy(), 256 * rows["at"].to_numpy(), list(run))


def isoflop_rows() -> pd.DataFrame:
    """Five budgets by six sizes at 256 tokens, one score a run."""
    rows = isoflops(np.geomspace(1e17, 1e19, 5), lambda c: 0.0009 * c**0.5681, 4)
    return rows.assign(T=256.0, D=rows["D"] / 256, gflops=rows["N"] * 256 / 1e9)


@dataclass(frozen=True)
class JointWorld:
    """A study with a planted law and log noise of each run (`of_run`) and of each score."""

    rows: pd.DataFrame
    law: np.ndarray
    of_run: Callable[[Generator, int], np.ndarray]
    of_score: float

    def scores(self, n: np.ndarray, t: np.ndarray, d: np.ndarray) -> np.ndarray:
        theta = np.array([*np.log(np.maximum(self.law[:3], 1e-12)), *self.law[3:]])
        x = np.log(np.stack([n, t, d])) - REFERENCE[:, None]
        return np.asarray(joint_search.terms_of(theta, x).sum(0))

    def noise(self, rng: Generator, run: np.ndarray) -> np.ndarray:
        own = self.of_run(rng, int(run.max()) + 1)
        return np.exp(own[run] + self.of_score * rng.standard_normal(len(run)))

    def draw(self, rng: Generator) -> pd.DataFrame:
        rows = self.rows
        value = self.scores(rows["N"].to_numpy(), rows["T"].to_numpy(), rows["D"].to_numpy())
        return rows.assign(value=value * self.noise(rng, pd.factorize(rows["run"])[0]))

    def truth(self, at: Points) -> dict[str, float]:
        """The parameters about the centre of the points."""
        n, t, d = at.centre - REFERENCE
        e, a, b, alpha, gamma, beta = self.law
        size, data = a * np.exp(-alpha * n - gamma * t), b * np.exp(-beta * d)
        return dict(zip(PARAMETERS, (e, size, data, alpha, gamma, beta), strict=True))

    def hits(self, rng: Generator, resamples: int) -> dict[str, float]:
        """Whether each interval of one draw holds the truth, and that of a new, larger run."""
        at = points(self.draw(rng))
        draws, truth = joint_bootstrap.bootstrap(joint.fit(at), resamples), self.truth(at)
        bounds = joint_bootstrap.intervals(draws)
        hits: dict[str, float] = {
            name: low <= truth[name] <= high for name, (low, high, _) in bounds.items()
        }
        new = [2 * self.rows["N"].max(), self.rows["T"].max(), 2 * self.rows["D"].max()]
        law = float(self.scores(*(np.array([x]) for x in new))[0])
        score = law * float(self.noise(rng, np.zeros(1, int))[0])
        found = joint_bootstrap.predict(draws, *new)
        return hits | {
            "law of a larger run": found["law_low"] <= law <= found["law_high"],
            "score of a larger run": found["low"] <= score <= found["high"],
        }

    def coverage(self, draws: int, resamples: int, seed: int = 0) -> dict[str, float]:
        """The share of draws in which each interval holds what was planted."""
        rng = np.random.default_rng(seed)
        found = pd.DataFrame([self.hits(rng, resamples) for _ in range(draws)])
        return {str(name): float(share) for name, share in found.mean().items()}


def normal(sd: float) -> Callable[[Generator, int], np.ndarray]:
    return lambda rng, count: sd * rng.standard_normal(count)


def heavy(rng: Generator, count: int) -> np.ndarray:
    return 0.02 * rng.standard_t(3, count)


WORLDS = {
    "12 models, 6 steps": JointWorld(grid_rows(), LAW, normal(0.03), 0.015),
    "12 models, 6 steps, 3 seeds": JointWorld(grid_rows(3), LAW, normal(0.03), 0.015),
    "12 models, t with 3 df": JointWorld(grid_rows(), LAW, heavy, 0.015),
    "no floor": JointWorld(grid_rows(), LAW * [0, 1, 1, 1, 1, 1], normal(0.03), 0.015),
    "isoFLOP loss": JointWorld(
        isoflop_rows(), np.array([0.5, 0.12, 0.1, 0.3, 0, 0.3]), normal(0.003), 0.0
    ),
}
digits_grid = WORLDS["12 models, 6 steps"].draw
