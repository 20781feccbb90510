"""Scoring anybody's images: from a folder as from an npz; what cannot be scored is named."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_verb
from PIL import Image
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import sha256
from harness.metrics import PAPER
from harness.metrics.values import values
from harness.scoring import external as score
from harness.scoring import features, reference
from harness.scoring.arrays import write_array

DIGITS: dict[str, Any] = {"extractor": "digits-cnn-1"}


@pytest.fixture
def against(tmp_path: Path, numbers: Tensor) -> Path:
    write_array(tmp_path / "reference.npz", [numbers[:900]], 900)
    return tmp_path / "reference.npz"


def folder_of(images: Tensor, folder: Path, suffix: str = "png") -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).squeeze(2).numpy()).save(
            folder / f"{i:06d}.{suffix}"
        )
    return folder


def test_a_folder_scores_as_its_npz_and_as_its_features(
    tmp_path: Path, numbers: Tensor, against: Path
) -> None:
    samples = numbers[900:1100]
    write_array(tmp_path / "samples.npz", samples.split(64), 200)
    from_array = score.score(tmp_path / "samples.npz", against, **DIGITS)
    assert score.score(folder_of(samples, tmp_path / "images"), against, **DIGITS) == from_array
    network = features.load("digits-cnn-1")
    expected = values(features.extract([samples], network), reference.read(against, network), PAPER)
    assert {name: from_array[name] for name in PAPER} == pytest.approx(expected, rel=1e-6)
    assert from_array["n"] == 200 and from_array["warnings"] == []
    assert from_array["reference_digest"] == sha256(against)
    assert json.loads(json.dumps(from_array)) == from_array


def test_inception_scores_with_the_weights_named(tmp_path: Path, random_inception: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("samples", "reference"):
        np.savez(
            tmp_path / f"{name}.npz", arr_0=rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
        )
    names = ("inception_score", "precision", "recall", "precision_fp16", "recall_fp16")
    got = score.score(
        tmp_path / "samples.npz", tmp_path / "reference.npz", random_inception, names=names
    )
    assert set(names) < set(got) and got["n"] == 6
    digest, few, few_real = got["warnings"]
    assert "not the published 6726825d" in digest
    assert few.startswith("6 samples for 2048 features") and few_real.startswith(
        "reference: 6 samples for"
    )


def test_jpeg_is_warned_of(tmp_path: Path, numbers: Tensor, against: Path) -> None:
    folder = folder_of(numbers[:70], tmp_path / "images", "jpg")
    (warning,) = score.score(folder, against, names=["fid"], **DIGITS)["warnings"]
    assert warning.startswith("70 images are JPEG")


def test_a_reference_of_another_resolution_is_refused(
    tmp_path: Path, numbers: Tensor, against: Path
) -> None:
    write_array(tmp_path / "samples.npz", [numbers[:20, :, :8, :8]], 20)
    with pytest.raises(ValueError, match=r"samples.npz is 8 pixels wide, .*reference.npz 16"):
        score.score(tmp_path / "samples.npz", against, **DIGITS)


def test_a_wrong_number_of_channels_is_refused(
    tmp_path: Path, numbers: Tensor, against: Path
) -> None:
    write_array(tmp_path / "samples.npz", [numbers[:20].expand(-1, 3, -1, -1)], 20)
    with pytest.raises(ValueError, match="have 3 channels, not 1"):
        score.score(tmp_path / "samples.npz", against, **DIGITS)


def test_grey_images_among_colours_are_named(tmp_path: Path, numbers: Tensor) -> None:
    folder = folder_of(numbers[:5].expand(-1, 3, -1, -1), tmp_path / "images")
    Image.new("L", (16, 16)).save(folder / "000002.png")
    with pytest.raises(ValueError, match=r"1 of 5 images in .*\(000002.png is L, not RGB\)"):
        score.open_images(folder, channels=3)


def test_unreadable_images_are_named_and_counted(
    tmp_path: Path, numbers: Tensor, against: Path
) -> None:
    folder = folder_of(numbers[:30], tmp_path / "images")
    (folder / "000003.png").write_bytes((folder / "000003.png").read_bytes()[:-40])
    (folder / "000004.png").write_bytes(b"")
    Image.new("L", (16, 16)).save(folder / "000005.jpg")
    (folder / "000005.jpg").write_bytes((folder / "000005.jpg").read_bytes()[:-40])
    with pytest.raises(
        ValueError, match=r"3 of 31 images .*000003.png is unreadable.*000004.png.*000005.jpg"
    ):
        score.score(folder, against, **DIGITS)


def test_a_fifo_is_named_and_not_waited_for(tmp_path: Path, numbers: Tensor, against: Path) -> None:
    folder = folder_of(numbers[:3], tmp_path / "images")
    os.mkfifo(folder / "x.png")
    with pytest.raises(UserError, match=r"1 of 4 images .*x.png is unreadable: is no regular file"):
        score.score(folder, against, **DIGITS)


def test_an_image_with_right_checksums_that_cannot_be_decoded_is_named(
    tmp_path: Path, numbers: Tensor, against: Path
) -> None:
    folder = folder_of(numbers[:3], tmp_path / "images")
    data, place = (folder / "000001.png").read_bytes(), b"IDAT"
    start = data.index(place) + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big")
    pixels = b"\0" * size
    checksum = zlib.crc32(place + pixels).to_bytes(4, "big")
    (folder / "000001.png").write_bytes(data[:start] + pixels + checksum + data[start + size + 4 :])
    with pytest.raises(UserError, match=r"000001.png is unreadable: .*: replace it"):
        score.score(folder, against, **DIGITS)


def test_sizes_that_differ_are_refused(tmp_path: Path, numbers: Tensor) -> None:
    folder = folder_of(numbers[:3], tmp_path / "images")
    Image.new("L", (8, 8)).save(folder / "x.png")
    with pytest.raises(ValueError, match=r"have sizes \[\(8, 8\), \(16, 16\)\]: bring them to one"):
        score.open_images(folder, channels=1)


def test_an_empty_folder_is_refused(tmp_path: Path, against: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no images in .*empty: give a folder"):
        score.score(tmp_path / "empty", against, **DIGITS)


def test_pickled_and_absent_samples_are_refused(tmp_path: Path, against: Path) -> None:
    np.savez(tmp_path / "pickled.npz", arr_0=np.array([{}, 1], dtype=object))
    for name, message in (
        ("pickled", "pickled objects, which are never loaded"),
        ("absent", "not a whole npz"),
    ):
        with pytest.raises(ValueError, match=message):
            score.score(tmp_path / f"{name}.npz", against, **DIGITS)


def test_parity_sets_ours_beside_the_known_values() -> None:
    """torch's public figures for ADM's files are in every bound; a precision further off is not."""
    ours = {
        "inception_score": 215.98,
        "fid": 3.9410,
        "sfid": 6.1405,
        "precision": 0.8255,
        "recall": 0.5285,
    }
    assert all(row["within"] for row in score.compare(ours))
    table = score.parity_table(score.compare(ours | {"precision": 0.8250}))
    (line,) = [line for line in table.splitlines() if "OUTSIDE" in line]
    assert line.split() == ["precision", "0.8250", "0.8265", "0.0010", "OUTSIDE"]


def test_the_verb_prints_values_and_warnings(
    tmp_path: Path, numbers: Tensor, against: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(numbers[:70], tmp_path / "images", "jpg")
    words = ("score", "--samples", folder, "--reference", against, "--extractor", "digits-cnn-1")
    status, text, _ = run_verb(capsys, *words)
    assert status == 0 and "fid     " in text and "Warning: 70 images are JPEG" in text
    values = json.loads(run_verb(capsys, *words, "--json")[1])
    assert f"{values['fid']:.4f}" in text and len(values["warnings"]) == text.count("Warning: ")
