"""What a comparison of two studies states: ranks, correlations, verdicts, noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.comparison import compare, differences, unstated
from analysis.correlation import correlation, difference
from analysis.noise import UNKNOWN, UNSEEN, Noise, noise, together
from analysis.table import listed


def comparison_sentences(a: pd.DataFrame, b: pd.DataFrame, metric: str = "fid") -> list[str]:
    """States how the two studies compare: ranks, correlations, verdicts, noise.

    Raises:
        TableError: no cell in both, or rows that cannot share an axis.
    """
    rows, reasons = compare(a, b, metric), differences(a, b, metric)
    sentences = [f"{len(rows)} models are in both, by size and patch{rank_text(rows)}."]
    if len(rows) > 2:
        sentences += correlations_sentences(a, b, metric)
    if reasons:
        differ = " and ".join(reasons)
        return [
            *sentences,
            f"The values themselves are not comparable: the studies differ in {differ}.",
        ]
    absent = unstated(a, b, metric)
    only = (
        [f"Given by one of them only, and taken as equal: {', '.join(absent)}."] if absent else []
    )
    own = noise(a, metric), noise(b, metric)
    noises = [
        f"Noise of {listed(table['study'])}: {noise_text(found)}."
        for table, found in zip((a, b), own, strict=True)
    ]
    bare = without_seeds(rows, together(*own))
    return [*sentences, *only, verdicts_sentence(rows), *dict.fromkeys(noises), *bare]


def without_seeds(rows: pd.DataFrame, noises: tuple[Noise, Noise]) -> list[str]:
    """States which patch sizes have the noise of another one."""
    patches = {
        f"{patch:g}"
        for patch in rows["patch"].dropna()
        for known in noises
        if len(known.by_patch) and known.of_patch(patch).empty
    }
    if not patches:
        return []
    return [
        f"No seeds at patch {', '.join(sorted(patches))}: the noise is {UNSEEN:g} times that"
        " of the noisiest patch with seeds; train one model of each with seed=0,1,2."
    ]


def rank_text(rows: pd.DataFrame) -> str:
    """States the rank correlation of the scores; of two models it is always ±1."""
    if len(rows) < 3:
        return ""
    ranks = rows["value_a"].corr(rows["value_b"], method="spearman")
    return f"; Spearman of their scores is {ranks:.2f}"


def verdicts_sentence(rows: pd.DataFrame) -> str:
    counted = rows["verdict"].value_counts().items()
    counts = ", ".join(f"{count} {verdict}" for verdict, count in counted)
    outside = rows.loc[rows["verdict"].isin(["better", "worse"]), "model_a"]
    named = f" (not equal: {listed(outside)})" if len(outside) else ""
    return (
        f"Of the values: {counts}{named}; adjusted for {len(rows)} cells, equal studies have one"
        " that is better or worse in 1 of 20."
    )


def noise_text(found: Noise) -> str:
    """States a noise with its interval and origin, and by patch where the runs tell them apart."""
    if found.origin == UNKNOWN:
        return UNKNOWN
    low, high = found.interval()
    text = f"{found.sd:.1%} of a score [{low:.1%}, {high:.1%}], from {found.origin}"
    text += size_text(found)
    if found.by_patch["sd"].nunique() < 2:
        return text
    parts = [f"{row['patch']:g}: {row['sd']:.1%}" for _, row in found.by_patch.iterrows()]
    return f"{text}; by patch {', '.join(parts)}"


def size_text(found: Noise) -> str:
    """States how noise depends on size, where the runs tell."""
    if not found.differs_by_size:
        return ""
    exponent, low, high = found.size
    return f"; as Gflops^{exponent:.2f} [{low:.2f}, {high:.2f}]"


def correlations_sentences(a: pd.DataFrame, b: pd.DataFrame, metric: str) -> list[str]:
    """Compares the correlations of both studies, family by family where they have several."""
    first, second = (correlation(table, metric, statistics=["pearson"]) for table in (a, b))
    several = len(first) > 1 or len(second) > 1
    pairs = first.merge(second, on="family" if several else "statistic", suffixes=("_a", "_b"))
    sentences = []
    for _, pair in pairs.iterrows():
        one, other = (
            pair[pair.index.str.endswith(side)].rename(lambda name: name[:-2])
            for side in ("_a", "_b")
        )
        texts = [
            f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" for row in (one, other)
        ]
        found = difference(one, other)
        known = (
            f"; difference of Fisher's z {found['difference']:.2f} [{found['low']:.2f},"
            f" {found['high']:.2f}], p = {found['p']:.2g}"
            if np.isfinite(found["p"])
            else ""
        )
        sentences.append(f"Pearson with log Gflops: {texts[0]} and {texts[1]}{known}.")
    return sentences
