"""The oracles of every metric that need no real weights, and torch-fidelity's own values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from harness.base.errors import UserError
from harness.base.motion import FRAMES
from harness.base.npz import Array
from harness.metrics import METRICS, PAPER, Metric, default_names, kernels, neighbours, value_names
from harness.metrics.frechet import T_95, fid, fid_infinity, frechet_distance
from harness.metrics.kernels import subset_mmd
from harness.metrics.logits import label_accuracy, score
from harness.metrics.neighbours import density_coverage, precision_recall
from harness.metrics.parity import fp16_distances, precision_recall_fp16
from harness.metrics.reference import Features, Moments, Reference, moments
from harness.metrics.sliced import sliced_distance
from harness.metrics.values import values, warnings

# isort: split
from torch_fidelity.metric_fid import fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def statistics(x: Tensor) -> tuple[Array, Array]:
    own = moments(x)
    return own.mean, own.sigma


def reference_of(x: Tensor) -> Reference:
    own = statistics(x)
    images = {"pool": x, **of_clips(x)}
    return Reference("test", "0" * 64, len(x), {"pool": own, "spatial": own}, images)


def features_of(x: Tensor) -> Features:
    labels = x.argmax(1)[:, None]
    return {"pool": x, "spatial": x, "logits": x, "labels": labels, **of_clips(x)}


def of_clips(x: Tensor) -> Features:
    """Layers of clips, of as many frames as a clip has: two numbers a frame."""
    frames = x[:, :1].repeat(1, 2 * FRAMES) + torch.arange(2.0 * FRAMES)
    return {"frames": frames, "track": frames}


def theirs(one: tuple[Array, Array], two: tuple[Array, Array]) -> float:
    first, second = ({"mu": mu, "sigma": sigma} for mu, sigma in (one, two))
    return float(fid_statistics_to_metric(first, second, False)["frechet_inception_distance"])


# Frechet distance


def test_distance_of_commuting_gaussians_is_that_of_their_deviations() -> None:
    mu, one, two = np.arange(5.0), np.array([1.0, 4, 9, 16, 25]), np.array([4.0, 1, 1, 9, 36])
    turn, _ = np.linalg.qr(normal(5, 5).double().numpy())
    got = frechet_distance(mu, turn * one @ turn.T, mu * 2, turn * two @ turn.T)
    assert got == pytest.approx(
        np.square(mu).sum() + np.square(np.sqrt(one) - np.sqrt(two)).sum(), rel=1e-12
    )


def test_distance_of_two_dimensions_in_closed_form() -> None:
    """tr (ab)^(1/2) of 2 x 2 matrices is (tr ab + 2 (det ab)^(1/2))^(1/2)."""
    a, b, zero = np.array([[2.0, 1], [1, 3]]), np.array([[1.0, -0.5], [-0.5, 2]]), np.zeros(2)
    cross = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a @ b)))
    got = frechet_distance(zero, a, zero, b)
    assert got == pytest.approx(np.trace(a) + np.trace(b) - 2 * cross, rel=1e-12)


def test_distance_under_an_affine_map() -> None:
    """x -> c x + t gives (1 - c)^2 tr(sigma) + |(1 - c) mu - t|^2."""
    x = normal(500, 8).double()
    mu, sigma = statistics(x)
    got = frechet_distance(mu, sigma, *statistics(3 * x + 2))
    assert got == pytest.approx(4 * np.trace(sigma) + np.square(-2 * mu - 2).sum(), rel=1e-12)


@pytest.mark.parametrize("dead", [0, 5])
def test_distance_of_a_set_to_itself_is_nothing_even_with_dead_features(dead: int) -> None:
    x = normal(500, 64)
    x[:, :dead] = 0
    assert abs(frechet_distance(*statistics(x), *statistics(x))) < 1e-12


@pytest.mark.parametrize("n", [400, 40])
def test_distance_equals_that_of_torch_fidelity(n: int) -> None:
    one, two = (
        statistics(normal(n, 128)),
        statistics(normal(500, 128, seed=1) @ normal(128, 128, seed=2) + 0.1),
    )
    assert frechet_distance(*one, *two) == pytest.approx(theirs(one, two), rel=1e-6)
    assert frechet_distance(*two, *one) == pytest.approx(theirs(one, two), rel=1e-6)


def test_fid_goes_to_the_statistics_and_not_to_the_images_of_a_reference() -> None:
    x = normal(500, 8)
    elsewhere = replace(reference_of(x), features={"pool": x + 100})
    assert abs(fid(features_of(x), elsewhere)["fid"]) < 1e-12


def test_moments_join_and_stand_a_large_mean() -> None:
    x = normal(5000, 6).double() + 1e6
    joined = moments(x[:17]) + moments(x[17:])
    assert joined.n == 5000
    np.testing.assert_allclose(joined.sigma, np.cov(x.numpy(), rowvar=False), rtol=1e-7)
    np.testing.assert_allclose(joined.mean, x.mean(0).numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match="1 image has no covariance"):
        _ = Moments(1, np.zeros(2), np.zeros((2, 2))).sigma


def test_more_noise_is_farther() -> None:
    x = normal(500, 16)
    against = reference_of(x)
    distances = [
        fid(features_of(x + s * normal(500, 16, seed=3)), against)["fid"] for s in (0.1, 0.3, 1.0)
    ]
    assert distances == sorted(distances) and distances[0] > 0


def test_order_of_samples_changes_nothing() -> None:
    x, against = normal(600, 16), reference_of(normal(500, 16, seed=1))
    turned = x[torch.randperm(600, generator=torch.Generator().manual_seed(0))]
    names = ("fid", "sfid", "precision", "recall", "precision_fp16", "recall_fp16")
    one, two = (values(features_of(f), against, names) for f in (x, turned))
    assert one == pytest.approx(two, rel=1e-9)


# Inception score


def test_inception_score_of_sure_and_balanced_guesses_is_the_number_of_classes() -> None:
    assert score(torch.eye(10).repeat(700, 1) * 100) == pytest.approx(10, abs=1e-9)


def test_inception_score_takes_consecutive_splits_and_the_last_shorter_one() -> None:
    logits = normal(11_000, 10) * 3
    parts = [
        isc_features_to_metric(part, 1, False)["inception_score_mean"]
        for part in torch.split(logits, 5000)
    ]
    assert len(parts) == 3
    assert score(logits) == pytest.approx(np.mean(parts), rel=1e-12)
    assert score(logits[:4999]) == pytest.approx(
        isc_features_to_metric(logits[:4999], 1, False)["inception_score_mean"], rel=1e-12
    )


def test_inception_score_of_samples_in_order_of_class_is_small() -> None:
    logits = torch.eye(10).repeat_interleave(1000, 0) * 100
    mixed = logits[torch.randperm(10_000, generator=torch.Generator().manual_seed(0))]
    assert score(logits) == pytest.approx(5) and score(mixed) > 9.9


# Precision and recall


def by_hand(generated: Tensor, real: Tensor) -> tuple[float, float]:
    g, r = generated.double().numpy(), real.double().numpy()
    apart = np.linalg.norm(g[:, None] - r[None], axis=-1)
    near_g, near_r = (
        np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1), 1)[:, 3] for x in (g, r)
    )
    return float((apart <= near_r).any(1).mean()), float((near_g >= apart.T).any(1).mean())


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_precision_and_recall_by_brute_force(offset: float) -> None:
    generated, real = normal(150, 12) * 0.8 + offset, normal(130, 12, seed=1) + offset
    assert precision_recall(generated, real) == pytest.approx(by_hand(generated, real))


def test_precision_and_recall_equal_those_of_torch_fidelity_over_several_blocks() -> None:
    generated, real = normal(4100, 16) * 0.8, normal(300, 16, seed=1)
    own = prc_features_to_metric(generated, real, verbose=False)
    assert precision_recall(generated, real) == pytest.approx(
        (own["precision"], own["recall"]), abs=1 / 4100
    )


def test_four_probes_on_a_line() -> None:
    """Real 0 … 7 reach 2 or 3 to both sides; 3 of 8 samples lie within, and theirs cover all."""
    real = torch.arange(8.0)[:, None]
    generated = torch.tensor([[-40.0], [0.5], [3.5], [6.5], [47.0], [-45.0], [52.0], [60.0]])
    assert precision_recall(generated, real) == (0.375, 1.0)


def test_one_mode_of_four_is_precise_and_recalls_little() -> None:
    centres = torch.eye(4) * 50
    real = torch.cat([centre + normal(100, 4, seed=i) for i, centre in enumerate(centres)])
    precision, recall = precision_recall(centres[0] + normal(400, 4, seed=9), real)
    assert precision > 0.9 and 0.2 < recall < 0.26


def test_swapped_sets_swap_precision_and_recall() -> None:
    a, b = normal(300, 8) * 0.7, normal(280, 8, seed=1)
    for measure in (precision_recall, precision_recall_fp16):
        assert measure(a, b) == measure(b, a)[::-1]


def test_fp16_distances_are_those_of_tensorflow() -> None:
    """tf.reduce_sum(tf.square(h), 1) - 2 h g' + … in float16, TensorFlow 2.21 on a CPU."""
    x = torch.from_numpy(
        np.abs(np.random.RandomState(0).standard_normal((4, 2048))).astype(np.float32)
    )
    assert fp16_distances(x[:2], x[2:]).tolist() == [[1474.0, 1476.0], [1428.0, 1484.0]]


def test_fp16_falls_back_to_fp32_where_it_overflows() -> None:
    a, b = normal(50, 64) * 100, normal(40, 64, seed=1) * 100
    torch.testing.assert_close(fp16_distances(a, b), torch.cdist(a, b).square(), rtol=1e-4, atol=1)
    assert precision_recall_fp16(a, b) == precision_recall(a, b)


def test_too_few_for_three_neighbours() -> None:
    with pytest.raises(ValueError, match="3 samples by 40 images"):
        precision_recall(normal(3, 4), normal(40, 4))


# Density and coverage


def balls_by_hand(generated: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    """Naeem et al. 2020, equations 5 and 6, one pair at a time."""
    g, r = generated.double(), real.double()
    radius = [sorted(float((x - y).norm()) for y in r)[k] for x in r]
    inside = [
        [float((x - y).norm()) < reach for x, reach in zip(r, radius, strict=True)] for y in g
    ]
    density = sum(map(sum, inside)) / (k * len(g))
    return density, sum(map(any, zip(*inside, strict=True))) / len(r)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_density_and_coverage_by_brute_force(offset: float) -> None:
    generated, real = normal(50, 6) * 0.9 + offset, normal(40, 6, seed=1) + offset
    for k in (3, 5):
        by_hand = balls_by_hand(generated, real, k)
        assert density_coverage(generated, real, k) == pytest.approx(by_hand)


def test_density_and_coverage_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generated, real = normal(150, 6) * 0.9, normal(130, 6, seed=1)
    whole = density_coverage(generated, real)
    monkeypatch.setattr(neighbours, "BLOCK", 37)
    assert density_coverage(generated, real) == pytest.approx(whole)


def test_samples_of_the_same_distribution_have_density_1_and_know_their_coverage() -> None:
    """Naeem et al. 2020, section 3.3: coverage is 1 - 1 / 2^k for as many samples as images."""
    density, coverage = density_coverage(normal(4000, 4), normal(4000, 4, seed=1))
    assert density == pytest.approx(1, abs=0.03)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.015)


def test_copies_of_one_image_are_dense_and_cover_little() -> None:
    real = normal(300, 4)
    density, coverage = density_coverage(real[:1].expand(300, -1) + 1e-4, real)
    assert density > 0.5 and coverage < 0.1


def test_too_few_images_for_five_neighbours() -> None:
    with pytest.raises(UserError, match="by 5 images: give 6 or more"):
        density_coverage(normal(30, 4), normal(5, 4))


# CMMD


def mmd_by_hand(x: Tensor, y: Tensor) -> float:
    def kernel(a: Tensor, b: Tensor) -> float:
        squares = (a.double()[:, None] - b.double()[None]).square().sum(-1)
        return float((-squares / 200).exp().mean())

    return 1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


def test_cmmd_by_brute_force_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(90, 12) + 1, normal(70, 12, seed=1)
    monkeypatch.setattr(kernels, "BLOCK", 32)
    assert kernels.gaussian_mmd(x, y) == pytest.approx(mmd_by_hand(x, y), rel=1e-5)


def test_cmmd_of_two_directions_in_closed_form() -> None:
    """Unit vectors at a right angle are 2 apart squared, whatever the features' length."""
    x, y = torch.eye(2)[:1].expand(5, -1) * 3, torch.eye(2)[1:].expand(7, -1) * 0.1
    got = kernels.cmmd({"pool": x}, reference_of(y))["cmmd"]
    assert got == pytest.approx(2000 * (1 - np.exp(-2 / 200)), rel=1e-5)
    assert kernels.cmmd({"pool": x}, reference_of(x))["cmmd"] == pytest.approx(0, abs=1e-6)


# MIND


def test_mind_of_a_shift_is_three_times_its_square() -> None:
    """Every projection moves by <u, c>, whose square is |c|²/D in the mean over directions."""
    x, shift = normal(100, 16), normal(16, seed=1)
    got = sliced_distance(x + shift, x)
    assert got == pytest.approx(3 * float(shift.square().sum()), rel=0.1)
    assert sliced_distance(x[:, :1] + 2, x[:, :1]) == pytest.approx(12, rel=1e-5)


def test_mind_pairs_projections_as_the_best_assignment_does() -> None:
    x, y = normal(40, 1) * 2, normal(40, 1, seed=1) + 0.3
    costs = (x - y.T).square().double().numpy()
    best = costs[linear_sum_assignment(costs)].mean()
    assert sliced_distance(x, y) == pytest.approx(3 * best, rel=1e-5)


def test_mind_by_loops_over_directions() -> None:
    x, y = normal(60, 8).abs(), normal(60, 8, seed=1)
    directions = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0)).double()
    total = 0.0
    for u in directions / directions.norm(dim=1, keepdim=True):
        own, other = sorted((x.double() @ u).tolist()), sorted((y.double() @ u).tolist())
        total += sum((a - b) ** 2 for a, b in zip(own, other, strict=True)) / 60
    assert sliced_distance(x, y) == pytest.approx(3 * 8 * total / 1000, rel=1e-5)


def test_mind_does_not_depend_on_the_order_and_falls_to_0_with_the_number() -> None:
    x = normal(4000, 8)
    assert sliced_distance(x.flip(0), x) == pytest.approx(0, abs=1e-12)
    few, many = (sliced_distance(normal(n, 8, seed=1), x) for n in (200, 4000))
    assert 0 < many < few / 5


# KID and FID-infinity


def test_kid_is_that_of_torch_fidelity_and_unbiased() -> None:
    a, b = normal(150, 8), normal(200, 8, seed=1)
    own = kid_features_to_metric(
        a.double(), b.double(), kid_subset_size=150, rng_seed=0, verbose=False
    )
    assert subset_mmd(a, b) == own["kernel_inception_distance_mean"]
    assert abs(subset_mmd(a, b)) < 0.05 < subset_mmd(a + 1, b)


def test_fid_infinity_removes_the_bias_of_few_samples() -> None:
    """By the true Gaussian, FID of N samples is about tr(sigma)(D + 1) / 4N, and its limit is 0."""
    x, mu, sigma = normal(4000, 32), np.zeros(32), np.eye(32)
    value, low, high = fid_infinity(x, mu, sigma)
    assert low < value < high
    assert abs(value) < 0.02 < frechet_distance(*statistics(x), mu, sigma)


OLD = [  # by numpy's lstsq, as records had them before: (rows, width, factor, mu, sigma), values
    (
        (4000, 32, 1.0, 0.0, 1.0),
        (0.005953487320050899, -0.0016281274000510262, 0.013535102040152826),
    ),
    ((600, 16, 1.3, 1.0, 2.0), (16.253477548040646, 15.93458724932383, 16.572367846757462)),
]


@pytest.mark.parametrize(("study", "expected"), OLD)
def test_fid_infinity_stands(
    study: tuple[int, int, float, float, float], expected: tuple[float, ...]
) -> None:
    rows, width, factor, mu, sigma = study
    got = fid_infinity(normal(rows, width) * factor, np.full(width, mu), sigma * np.eye(width))
    assert got == pytest.approx(expected, rel=1e-12)
    assert T_95 == 2.160


# The table


def test_a_reference_without_images_serves_what_compares_with_its_statistics() -> None:
    x = normal(50, 4)
    blind = replace(reference_of(x), features={"pool": torch.empty(0, 4)})
    assert abs(values({"pool": x}, blind, ["fid"])["fid"]) < 1e-12
    for row in METRICS.values():
        if row.images:
            with pytest.raises(UserError, match=f"no images, {row.values[0]}.* need them"):
                values(features_of(x), blind, row.values)


def test_every_metric_of_a_set_and_itself() -> None:
    x = normal(150, 16).abs()
    got = values(features_of(x), reference_of(x), value_names())
    assert list(got) == list(value_names()) and all(
        isinstance(value, float) for value in got.values()
    )
    assert got["precision"] == got["recall"] == 1


def test_label_accuracy_is_the_share_of_largest_logits_at_the_label() -> None:
    logits = torch.eye(4)
    found = {"logits": logits, "labels": torch.tensor([[0], [1], [2], [0]])}
    assert label_accuracy(found, reference_of(logits)) == {"label_accuracy": 0.75}


def test_a_row_gives_the_values_that_it_names() -> None:
    x, against = normal(50, 4), reference_of(normal(50, 4, seed=1))
    for row in METRICS.values():
        assert tuple(row.compute(features_of(x), against)) == row.values
    assert len({*value_names()}) == len(value_names())


def test_values_of_one_computation_take_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def both(*_: object) -> dict[str, float]:
        calls.append(1)
        return {"one": 1.0, "two": 2.0}

    monkeypatch.setitem(METRICS, "both", Metric(("one", "two"), ("pool",), both))
    x = normal(50, 4)
    assert values({"pool": x}, reference_of(x), ("two", "one")) == {"two": 2.0, "one": 1.0}
    assert len(calls) == 1


def test_records_hold_what_they_held_before_there_were_rows() -> None:
    """Stores of older versions are compared by these sets of values."""
    infinity = ("fid_infinity", "fid_infinity_low", "fid_infinity_high")
    layers = ("pool", "spatial", "logits", "labels")
    fp16 = ("precision_fp16", "recall_fp16")
    assert default_names("inception", layers) == (*PAPER, *fp16, "kid", *infinity)
    assert default_names("digits-cnn-1", layers) == (*PAPER, *infinity, "label_accuracy")


def test_a_metric_without_its_layer_is_refused() -> None:
    x = normal(50, 4)
    with pytest.raises(UserError, match="sfid cannot be computed from pool features: choose from"):
        values({"pool": x}, reference_of(x), ("fid", "sfid"))


def test_values_are_in_the_order_that_was_asked_for() -> None:
    x = normal(50, 4)
    names = ("recall", "fid", "precision")
    assert tuple(values(features_of(x), reference_of(x), names)) == names


def test_values_do_not_outlive_a_change_of_features() -> None:
    x, against = normal(50, 4), reference_of(normal(50, 4, seed=1))
    before = values(features_of(x), against)
    x += 100
    assert values(features_of(x), against)["precision"] == 0 != before["precision"]


def test_bad_input_is_named() -> None:
    x, against = normal(50, 4), reference_of(normal(50, 4))
    with pytest.raises(ValueError, match="no metric fidd: choose from fid, sfid"):
        values(features_of(x), against, ["fidd"])
    x[3, 1] = float("nan")
    with pytest.raises(ValueError, match="features of 1 in 50 images are not finite"):
        values(features_of(x), against)


def test_a_negative_distance_is_refused() -> None:
    x = normal(500, 8)
    mu, sigma = statistics(x)
    upside_down = replace(reference_of(x), statistics={"pool": (mu, -3 * sigma)})
    with pytest.raises(
        UserError, match=r"Fréchet distance is -\d+\.\d+, below 0: .* no covariance"
    ):
        fid(features_of(normal(500, 8, seed=1)), upside_down)


def test_values_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of somebody's that divides by zero: JSON has no word for it."""
    odd = Metric(("odd",), ("pool",), lambda *_: {"odd": float("nan")})
    monkeypatch.setitem(METRICS, "odd", odd)
    x = normal(50, 4)
    with pytest.raises(UserError, match="odd = nan of 50 images by test"):
        values(features_of(x), reference_of(x), ("fid", "odd"))


def test_few_samples_are_warned_of() -> None:
    assert warnings(2049, {"pool": 2048}) == []
    assert "2048 samples for 2048 features" in warnings(2048, {"pool": 2048})[0]
