"""The comparison of studies and the noise of training."""

from __future__ import annotations

import numpy as np
import pytest
from studies import PAPER, digits

from analysis import comparison


def test_seed_spread_recovers_the_planted_noise() -> None:
    spread, known_from = comparison.noise(digits(seeds=(0, 1, 2, 3), sd=0.05))
    assert spread == pytest.approx(0.05, rel=0.25)
    assert known_from == "144 runs of 36 models over seeds"


def test_equal_studies_are_within_noise_and_a_doubled_one_differs() -> None:
    a, b = (digits(seeds=(0, 1, 2), draw=draw) for draw in (1, 2))
    assert (comparison.compare(a, b)["verdict"] == "within noise").sum() >= 10
    b["value"] *= 2
    assert (comparison.compare(a, b)["verdict"] == "differs").all()


def test_without_seeds_the_noise_is_not_known() -> None:
    assert set(comparison.compare(digits(), digits(draw=1))["verdict"]) == {"noise not known"}


def test_scores_of_different_extractors_are_compared_by_rank_alone() -> None:
    rows = comparison.compare(digits(), PAPER)
    assert "ratio" not in rows and len(rows) == 12
    assert (
        "differ in features (digits-cnn-1, inception)"
        in comparison.comparison_sentences(digits(), PAPER)[-1]
    )


def test_the_paper_against_its_own_reruns_gives_the_noise() -> None:
    assert np.exp(comparison.rerun_differences()).round(3).tolist() == [
        0.93,
        1.008,
        0.999,
        1.09,
        0.905,
        1.164,
    ]
