"""Planted studies, and how often each printed 95 % interval holds what was planted.

`PYTHONPATH=.:tests python tests/planted_coverage.py 600` prints the table of
docs/statistics.md in 20 minutes; a second word chooses the situations with it in their name.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
from joint_worlds import WORLDS as JOINT_WORLDS
from loss_worlds import WORLDS as LOSS_WORLDS
from numpy.random import Generator
from rate_worlds import WORLDS as RATE_WORLDS
from scipy import stats
from studies import PAPER

from analysis import comparison, fits, laws, noise
from analysis.correlation import axes_of, bca_interval, correlate, jackknife_interval
from analysis.grid import final

MODELS = final(PAPER)  # the published twelve; only their scores are planted
LOG_G = np.log(MODELS["gflops"].to_numpy())
PATCHES = MODELS["patch"].to_numpy()
TERMS = np.array([1.88, -0.273, -0.394, -0.261])  # the published three-term law, log10
Bounds = tuple[float, float]
Hits = dict[str, float]


@dataclass(frozen=True)
class World:
    """A way to plant scores on the twelve models.

    `law` gives the log scores without noise; `noise` their log noise; `truth` the parameters.
    """

    law: Callable[[pd.DataFrame], np.ndarray]
    noise: Callable[[Generator], np.ndarray]
    truth: dict[str, float] = field(default_factory=dict)
    models: pd.DataFrame = field(default_factory=lambda: MODELS)

    def draw(self, rng: Generator) -> pd.DataFrame:
        return self.models.assign(value=np.exp(self.law(self.models) + self.noise(rng)))


def equal(sd: float) -> Callable[[Generator], np.ndarray]:
    return lambda rng: sd * rng.standard_normal(len(MODELS))


def line(rows: pd.DataFrame) -> np.ndarray:
    return np.log(100) - 0.4 * np.log(rows["gflops"].to_numpy())


def with_floor(rows: pd.DataFrame) -> np.ndarray:
    return np.log(np.exp(line(rows)) + 10)


def three_terms(rows: pd.DataFrame) -> np.ndarray:
    return np.log(10) * (fits.design(rows, fits.PRODUCT) @ TERMS)


def unequal(rng: Generator) -> np.ndarray:
    """30 % at the smallest model to 2 % at the largest."""
    return np.geomspace(0.3, 0.02, len(MODELS)) * rng.standard_normal(len(MODELS))


def heavy(rng: Generator) -> np.ndarray:
    return 0.06 * rng.standard_t(3, len(MODELS))


def offsets(by: str, sd: float = 0.15) -> Callable[[Generator], np.ndarray]:
    """An offset that all models of a patch, or of a size, share, and 6 % of each its own."""
    groups = pd.factorize(MODELS[by])[0]

    def draw(rng: Generator) -> np.ndarray:
        return sd * rng.standard_normal(groups.max() + 1)[groups] + equal(0.06)(rng)

    return draw


POWER = {"a": 100.0, "b": 0.4, "c": 0.0}
AT_ONE = MODELS.assign(gflops=np.exp(LOG_G - LOG_G.mean()))
WORLDS = {
    "law, 6 %": World(line, equal(0.06), POWER),
    "law, 6 %, mean Gflops 1": World(line, equal(0.06), POWER, AT_ONE),
    "law, 25 %": World(line, equal(0.25), POWER),
    "law, t with 3 df": World(line, heavy, POWER),
    "law, 30 % to 2 %": World(line, unequal, POWER),
    "law, patch offsets 15 %": World(line, offsets("patch"), POWER),
    "law, size offsets 15 %": World(line, offsets("size"), POWER),
    "floor 10, 2 %": World(with_floor, equal(0.02), POWER | {"c": 10.0}),
    "floor 10, 6 %": World(with_floor, equal(0.06), POWER | {"c": 10.0}),
    "three terms, 6 %": World(three_terms, equal(0.06)),
}
LINES = [name for name in WORLDS if name.startswith("law")]


def holds(bounds: Bounds, truth: float) -> bool:
    return bool(bounds[0] <= truth <= bounds[1])


def bounds_of(row: pd.Series) -> Bounds:
    return row["low"], row["high"]


def power_law_hits(world: World, rng: Generator, floor: bool) -> Hits:
    form = "with floor" if floor else "no floor"
    found = laws.power_law_of(world.draw(rng), floor)
    return {
        f"{row['parameter']} of the power law, {form}": holds(
            bounds_of(row), world.truth[row["parameter"]]
        )
        for _, row in found.iterrows()
    }


def exponent_hits(world: World, rng: Generator) -> Hits:
    rows, hits = world.draw(rng), Hits()
    if world.truth:
        fit = fits.fit_law(rows, fits.GFLOPS).conf_int()[1]
        hits["exponent of Gflops, t"] = holds(tuple(fit), -world.truth["b"])
        for by in ("size", "patch"):
            found = jackknife_interval(slope, rows, by)
            hits[f"exponent of Gflops, jackknife-t over {by}"] = holds(
                (found["low"], found["high"]), -world.truth["b"]
            )
    else:
        fit = fits.fit_law(rows, fits.PRODUCT).conf_int()[1:]
        for name, bounds, truth in zip(fits.LAWS[fits.PRODUCT], fit, TERMS[1:], strict=True):
            hits[f"exponent of {name}, t"] = holds(tuple(bounds), truth)
    return hits


def slope(rows: pd.DataFrame) -> float:
    """As sentences.slope, without statsmodels."""
    x, y = np.log(rows["gflops"].to_numpy()), np.log(rows["value"].to_numpy())
    return float(np.cov(x, y)[0, 1] / x.var(ddof=1))


def misspecification_hits(world: World, rng: Generator) -> Hits:
    """Whether the test accepts: 95 % where the law is true."""
    rows = world.draw(rng)
    return {
        f"test of the law in {law} accepts": fits.misspecification(rows, law)["p"] >= 0.05
        for law in fits.LAWS
    }


def prediction_hits(world: World, rng: Generator) -> Hits:
    """Whether the intervals hold new scores: of XL/2 from the others, of four from the eight."""
    rows, hits = world.draw(rng), Hits()
    for law in fits.LAWS:
        for name, count in (("XL/2 from the others", 11), ("the largest four from the others", 8)):
            fit = fits.fit_law(rows.iloc[:count], law)
            at = fits.design(rows.iloc[count:], law)
            frame = fit.get_prediction(at).summary_frame(alpha=0.05)
            truth = np.log10(rows["value"].to_numpy()[count:])
            inside = (frame["obs_ci_lower"] <= truth) & (truth <= frame["obs_ci_upper"])
            hits[f"prediction of {name}, law in {law}"] = inside.mean()
    return hits


def correlation_hits(
    draw: Callable[[Generator], pd.DataFrame], truth: dict[str, float], rng: Generator
) -> Hits:
    rows = draw(rng)
    found = correlate(rows, truth)
    hits = {
        f"{row['statistic'].capitalize()}, {row['method']}": holds(
            bounds_of(row), truth[row["statistic"]]
        )
        for _, row in found.iterrows()
    }
    bca = bca_interval(*axes_of(rows))
    return hits | {"Pearson, BCa": holds((bca["low"], bca["high"]), truth["pearson"])}


def binormal(rho: float) -> Callable[[Generator], pd.DataFrame]:
    def draw(rng: Generator) -> pd.DataFrame:
        x = rng.standard_normal(12)
        y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal(12)
        return MODELS.assign(gflops=10**x, value=y)

    return draw


def random_models(sizes: int) -> Callable[[Generator], pd.DataFrame]:
    """Twelve models of random size, or `sizes` random sizes at patches 8, 4 and 2."""

    def draw(rng: Generator) -> pd.DataFrame:
        if sizes:
            log_n, patch = np.repeat(rng.uniform(-0.5, 0.8, sizes), 3), np.tile([8, 4, 2], sizes)
        else:
            log_n, patch = rng.uniform(-0.5, 0.8, 12), rng.choice([8, 4, 2], 12)
        tokens = (32 / patch) ** 2
        gflops = 10 ** (8 + log_n) * tokens / 1e9
        rows = MODELS.assign(params=10 ** (8 + log_n), tokens=tokens, gflops=gflops)
        return rows.assign(value=np.exp(three_terms(rows) + equal(0.06)(rng)))

    return draw


def population(draw: Callable[[Generator], pd.DataFrame]) -> dict[str, float]:
    """The correlations of 18,000 models of a world, of 2,000 for Kendall."""
    rng = np.random.default_rng(99)
    rows = pd.concat([draw(rng) for _ in range(1500)])
    x, y = np.log(rows["gflops"].to_numpy()), rows["value"]
    frame = pd.DataFrame({"x": x, "y": y.to_numpy()})
    large = {name: frame.corr(name).iloc[0, 1] for name in ("pearson", "spearman")}
    return large | {"kendall": frame[:2000].corr("kendall").iloc[0, 1]}


def of_rho(rho: float) -> dict[str, float]:
    """The three correlations of a binormal pair."""
    return {
        "pearson": rho,
        "spearman": 6 / np.pi * np.arcsin(rho / 2),
        "kendall": 2 / np.pi * np.arcsin(rho),
    }


@dataclass(frozen=True)
class Seeds:
    """Which models have seeds, how many, and the noise of one run by patch."""

    models: tuple[str, ...] = tuple(MODELS["model"])
    sd: tuple[float, float, float] = (0.06, 0.06, 0.06)  # at patch 8, 4, 2
    count: int = 3


B = ("DiT-B/8", "DiT-B/4", "DiT-B/2")
B_AND_L = (*B, "DiT-L/8", "DiT-L/4", "DiT-L/2")
UNEQUAL, FOURFOLD = (0.1, 0.03, 0.05), (0.12, 0.03, 0.03)
SEEDS = {
    "3 seeds of all twelve, 6 %": Seeds(),
    "3 seeds of B/4, 6 %": Seeds(("DiT-B/4",)),
    "2 seeds of B/8, B/4, B/2, 6 %": Seeds(B, count=2),
    "3 seeds of B/8, B/4, B/2, 6 %": Seeds(B),
    "5 seeds of B/8, B/4, B/2, 6 %": Seeds(B, count=5),
    "3 seeds of all twelve, 10/3/5 %": Seeds(sd=UNEQUAL),
    "2 seeds of B/8, B/4, 12/3 %": Seeds(("DiT-B/8", "DiT-B/4"), FOURFOLD, 2),
    "2 seeds of B/8, B/4, B/2, 12/3/3 %": Seeds(B, FOURFOLD, 2),
    "2 seeds of six, 12/3/3 %": Seeds(B_AND_L, FOURFOLD, 2),
    "3 seeds of B/8, B/4, B/2, 10/3/5 %": Seeds(B, UNEQUAL),
    "3 seeds of B/8, B/4, B/2, 12/3/3 %": Seeds(B, FOURFOLD),
    "3 seeds of B/8, B/4, B/2, 3/12/12 %": Seeds(B, (0.03, 0.12, 0.12)),
    "5 seeds of B/8, B/4, B/2, 12/3/3 %": Seeds(B, FOURFOLD, 5),
    "3 seeds of B/4, 10/3/5 %": Seeds(("DiT-B/4",), UNEQUAL),
}


def noise_hits(seeds: Seeds, rng: Generator) -> Hits:
    """Whether two equal studies' cells lie in the band, by patch; whether none differs.

    A width is that of the band by that of a known noise.
    """
    deviation = np.select([PATCHES == 8, PATCHES == 4], seeds.sd[:2], seeds.sd[2])
    several = MODELS["model"].isin(seeds.models).to_numpy()
    counts = np.where(several, seeds.count, 1)
    noises, means = [], []
    for _ in range(2):
        logs = [sd * rng.standard_normal(n) for sd, n in zip(deviation, counts, strict=True)]
        found = MODELS.loc[several, ["model", "patch"]].assign(
            log_gflops=LOG_G[several],
            runs=seeds.count,
            sd=[log.std(ddof=1) for log, n in zip(logs, counts, strict=True) if n > 1],
        )
        noises.append(noise.pooled(found, "over seeds"))
        means.append(np.array([log.mean() for log in logs]))
    both, gflops = noise.together(*noises), np.exp(LOG_G)
    cells = zip(PATCHES, gflops, np.stack([counts, counts], 1), strict=True)
    errors = np.array([comparison.error_of(both, patch, (g, g), n) for patch, g, n in cells])
    found = comparison.verdicts(pd.Series(np.exp(means[0] - means[1])), errors)
    inside = found["ratio"].between(found["low"], found["high"])
    width = np.log(found["high"]) / (stats.norm.ppf(0.975) * deviation * np.sqrt(2 / counts))
    hits = {"no cell differs, Holm": not np.isin(found["verdict"], ["better", "worse"]).any()}
    for patch in (8, 4, 2):
        here = np.equal(PATCHES, patch)
        hits[f"noise band at patch {patch:g}"] = np.mean(inside[here])
        hits[f"width of it at patch {patch:g}"] = np.mean(width[here])
    low, high = noises[0].interval()
    return {**hits, "noise of one run, χ²": holds((low, high), seeds.sd[1])}


Trial = Callable[[Generator], Hits]
Hitting = Callable[[World, Generator], Hits]


def trials() -> Iterator[tuple[str, Trial]]:
    """Yields (situation, trial) of everything that is measured."""
    for rho in (-0.93, -0.7):
        truth = of_rho(rho)
        yield f"binormal, ρ = {rho}", partial(correlation_hits, binormal(rho), truth)
    for name, sizes in (("12 random models", 0), ("4 random sizes × 3 patches", 4)):
        draw = random_models(sizes)
        yield name, partial(correlation_hits, draw, population(draw))
    for name, world in WORLDS.items():
        for hits in (exponent_hits, misspecification_hits, prediction_hits):
            yield name, partial(hits, world)
        for floor in (False, True):
            if world.truth and (floor or world.truth["c"] == 0):
                yield name, partial(power_law_hits, world, floor=floor)
    for name, seeds in SEEDS.items():
        yield name, partial(noise_hits, seeds)
    for name, study in JOINT_WORLDS.items():
        yield f"joint law, {name}", partial(study.hits, resamples=400)
    for name, sweep in RATE_WORLDS.items():
        yield f"learning rate, {name}", sweep.hits
    for name, curves in LOSS_WORLDS.items():
        yield f"FID by loss, {name}", curves.hits


def coverage(trial: Trial, draws: int, seed: int = 0) -> dict[str, float]:
    """Returns the share of draws in which each interval holds the truth."""
    rng, total = np.random.default_rng(seed), Counter[str]()
    for _ in range(draws):
        total.update({name: float(hit) for name, hit in trial(rng).items()})
    return {name: count / draws for name, count in total.items()}


def table(draws: int, only: str = "") -> Iterator[str]:
    """Yields the lines of a table of all situations whose name has `only` in it."""
    yield "| situation | interval | coverage |"
    yield "|---|---|---|"
    for situation, trial in trials():
        if only in situation:
            for name, share in coverage(trial, draws).items():
                yield f"| {situation} | {name} | {share:.3f} |"


if __name__ == "__main__":
    for text in table(int(sys.argv[1]), *sys.argv[2:]):
        print(text, flush=True)
