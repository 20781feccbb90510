"""Extractors: one pass for all layers, a digest of the weights, full precision, safe loading."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import score_all, tiny_protocol, tiny_run, tiny_sweep, train_all
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from torch import Tensor

from harness.base.files import read_json, sha256
from harness.base.precision import matmul_precision
from harness.data import digits, shapes
from harness.extractors import EXTRACTORS
from harness.extractors.digits_cnn import FROZEN, LAYERS, DigitsCNN
from harness.metrics.frechet import fid
from harness.models.autoencoder import to_uint8
from harness.scoring import features, reference
from harness.scoring.features import Loaded
from harness.scoring.make_digits import DIGITS, train
from harness.study.store import Store

# isort: split
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metrics import calculate_metrics


def noise(n: int, channels: int = 3, side: int = 32) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=draw)


@pytest.fixture(scope="module")
def inception(random_inception: Path) -> Loaded:
    return features.load("inception", random_inception, allow_other_digest=True)


def test_inception_layers_are_those_of_torch_fidelity(
    inception: Loaded, random_inception: Path
) -> None:
    layers = ["2048", "logits_unbiased"]
    theirs = FeatureExtractorInceptionV3(
        "inception", layers, feature_extractor_weights_path=str(random_inception)
    )
    spatial: list[Tensor] = []
    theirs.Mixed_6d.branch1x1.register_forward_hook(lambda module, args, out: spatial.append(out))
    with torch.inference_mode():
        pool, logits = theirs(noise(3))
    ours = inception(noise(3))
    assert torch.equal(ours["pool"], pool) and torch.equal(ours["logits"], logits)
    by_hand = spatial[0][:, :7].numpy().transpose(0, 2, 3, 1).reshape(3, 7 * 17 * 17)
    np.testing.assert_array_equal(ours["spatial"].numpy(), by_hand)
    assert pool.std() > 1e-3 and ours["spatial"].shape == (3, 2023)


def test_inception_runs_once_for_all_layers(inception: Loaded) -> None:
    passes: list[int] = []
    stem = inception.network.get_submodule("Conv2d_1a_3x3")
    hook = stem.register_forward_hook(lambda module, args, out: passes.append(1))
    assert tuple(inception(noise(2))) == LAYERS
    hook.remove()
    assert len(passes) == 1


def is_tf32() -> bool:
    """What a GPU asks before each product; torch raises where its two settings differ."""
    return torch.backends.cuda.matmul.allow_tf32


def test_neither_batches_nor_autocast_nor_tf32_change_features(inception: Loaded) -> None:
    whole, seen = inception(noise(3)), list[bool]()
    with matmul_precision("tf32"), torch.autocast("cpu", torch.bfloat16):
        hook = inception.network.register_forward_hook(lambda *_: seen.append(is_tf32()))
        split = features.extract(noise(3).split([2, 1]), inception)
        hook.remove()
        assert is_tf32() and seen == [False, False]
    for layer in LAYERS:
        torch.testing.assert_close(split[layer], whole[layer], rtol=1e-4, atol=1e-5)
        assert split[layer].dtype == torch.float32


@pytest.mark.parametrize(
    "images",
    [noise(2).float(), noise(2, channels=1), noise(2)[0]],
    ids=["float", "grey", "no batch"],
)
def test_other_than_uint8_colour_images_are_refused(inception: Loaded, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"inception reads uint8 images \[N, 3, H, W\], not"):
        inception(images)


def test_no_images_are_refused(inception: Loaded) -> None:
    with pytest.raises(ValueError, match="no images"):
        features.extract([], inception)


def test_absent_weights_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"at {tmp_path}/w.pth: put https://.*6726825d.pth there"):
        features.load("inception", tmp_path / "w.pth")
    with pytest.raises(ValueError, match="'inceptoin' is not one of inception, digits-cnn-1"):
        features.load("inceptoin")


def test_other_weights_are_refused_unless_named(random_inception: Path) -> None:
    with pytest.raises(ValueError, match=r"SHA-256 \w{8}\.\.\., not the published 6726825d"):
        features.load("inception", random_inception)
    (warning,) = features.load("inception", random_inception, allow_other_digest=True).warnings
    assert sha256(random_inception)[:8] in warning


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("touched",)


def test_pickled_code_in_weights_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"fc.weight": Hostile()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    (tmp_path / "short.pth").write_bytes(b"")
    for name in ("zip.pth", "plain.pth", "short.pth"):
        with pytest.raises(ValueError, match=f"{name} does not hold the weights of inception"):
            features.load("inception", tmp_path / name, allow_other_digest=True)
    with pytest.raises(ValueError, match="does not hold the weights of digits-cnn-1"):
        features.load("digits-cnn-1", tmp_path / "zip.pth", allow_other_digest=True)
    assert not (tmp_path / "touched").exists()


def test_frozen_digits_extractor_is_the_one_of_the_table(numbers: Tensor) -> None:
    digits_cnn = features.load("digits-cnn-1")
    weights = EXTRACTORS["digits-cnn-1"].weights
    assert weights is not None and weights.path() == FROZEN
    assert digits_cnn.digest == weights.digest == sha256(FROZEN) and not digits_cnn.warnings
    found = features.extract(numbers.split(500), digits_cnn)
    assert [found[layer].shape[1] for layer in LAYERS] == [64, 256, 10]
    right = found["logits"].argmax(1) == digits.load()[1]
    assert right.double().mean() > 0.995


def test_digits_of_8_pixels_have_the_features_of_their_enlargement(numbers: Tensor) -> None:
    digits_cnn = features.load("digits-cnn-1")
    small = features.extract(to_uint8(digits.load("digits8")[0]).split(500), digits_cnn)
    large = features.extract(numbers.split(500), digits_cnn)
    assert fid(small, reference.from_features("digits", "", large))["fid"] < 0.01
    assert torch.equal(small["logits"].argmax(1), large["logits"].argmax(1))


def test_digits_extractor_is_registered_with_torch_fidelity(numbers: Tensor) -> None:
    class Batch(torch.utils.data.Dataset[Tensor]):
        def __init__(self, images: Tensor) -> None:
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> Tensor:
            return self.images[index]

    scores = calculate_metrics(
        input1=Batch(numbers[:300]),
        input2=Batch(numbers[300:600]),
        feature_extractor="digits-cnn-1",
        isc=True,
        isc_splits=1,
        fid=True,
        cuda=False,
        cache=False,
        verbose=False,
        save_cpu_ram=True,
    )
    assert scores["inception_score_mean"] > 8 and 0 < scores["frechet_inception_distance"] < 1000


def test_digits_are_those_of_scikit_learn() -> None:
    ours, theirs = np.load(DIGITS), load_digits()
    np.testing.assert_array_equal(ours["images"], theirs.images)
    np.testing.assert_array_equal(ours["labels"], theirs.target)


def test_the_embedded_shapes_are_seen_by_their_own_extractor() -> None:
    shapes_cnn = features.load("shapes-cnn-1")
    images, labels = shapes.load()
    assert images.shape == (10_000, 3, 16, 16) and float(images.abs().max()) <= 1
    found = features.extract(to_uint8(images[:2000]).split(500), shapes_cnn)
    assert (found["logits"].argmax(1) == labels[:2000]).double().mean() > 0.995
    assert torch.equal(labels.bincount(), torch.full((8,), 1250))


def test_shapes_are_trained_and_scored_without_a_file(tmp_path: Path) -> None:
    run = tiny_run(data="shapes", model="mini-DiT-S/8")
    protocol = tiny_protocol(features="shapes-cnn-1", reference="shapes")
    sweep, store = tiny_sweep(runs=run, steps=2, protocols=protocol), Store(tmp_path)
    train_all(sweep, store)
    score_all(sweep, store)
    assert {"fid", "label_accuracy"} <= read_json(store.record(run, 2, protocol))["values"].keys()


def test_training_of_the_digits_extractor_is_repeatable(numbers: Tensor) -> None:
    labels = digits.load()[1]
    some = DigitsCNN, numbers[:128], labels[:128]
    one, two = (train(*some, epochs=1).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert {name: value.shape for name, value in one.items()} == {
        k: v.shape for k, v in load_file(FROZEN).items()
    }
