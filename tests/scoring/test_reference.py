"""Reference files: read and written as ADM does, refused where they are anything else."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import sha256
from harness.base.npz import image_shape, read_arrays
from harness.scoring import features, reference
from harness.scoring.arrays import read_array, write_array
from harness.scoring.features import Loaded
from harness.study.reference_file import STATISTICS, read_statistics, statistics_shapes


@pytest.fixture(scope="module")
def extractor() -> Loaded:
    return features.load("digits-cnn-1")


def nhwc(images: Tensor) -> np.ndarray[Any, Any]:
    return images.permute(0, 2, 3, 1).numpy()


def statistics(width: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "mu": rng.random(width).astype(np.float32),
        "sigma": np.eye(width, dtype=np.float32),
    } | {"mu_s": rng.random(256), "sigma_s": np.eye(256)}


def test_statistics_of_adm_are_read_and_cast_and_other_keys_ignored(
    tmp_path: Path, numbers: Tensor, extractor: Loaded
) -> None:
    stored = statistics(64)
    np.savez(
        tmp_path / "adm.npz", arr_0=nhwc(numbers[:50]), n=np.array([{}], dtype=object), **stored
    )
    found = reference.read(tmp_path / "adm.npz", extractor)
    assert (found.name, found.n) == ("adm", 50)
    assert found.digest == sha256(tmp_path / "adm.npz")
    for layer, keys in STATISTICS.items():
        for key, array in zip(keys, found.statistics[layer], strict=True):
            assert array.dtype == np.float64
            np.testing.assert_array_equal(array, stored[key])
    assert torch.equal(found.features["pool"], extractor(numbers[:50])["pool"])


def test_absent_statistics_come_from_the_images(
    tmp_path: Path, numbers: Tensor, extractor: Loaded
) -> None:
    np.savez_compressed(tmp_path / "images.npz", arr_0=nhwc(numbers))
    found, layers = reference.read(tmp_path / "images.npz", extractor), extractor(numbers)
    assert found.statistics.keys() == {"pool", "spatial"}
    for layer, (mu, sigma) in found.statistics.items():
        np.testing.assert_allclose(mu, layers[layer].double().mean(0).numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            sigma, np.cov(layers[layer].numpy(), rowvar=False), rtol=1e-5, atol=1e-5
        )


def test_statistics_alone_are_a_reference_without_images(tmp_path: Path, extractor: Loaded) -> None:
    np.savez(tmp_path / "only.npz", **statistics(64))
    found = reference.read(tmp_path / "only.npz", extractor)
    assert tuple(found.features["pool"].shape) == (0, 64) and found.n == found.kept == 0


def test_ranks_write_what_one_would(tmp_path: Path, numbers: Tensor, extractor: Loaded) -> None:
    whole = reference.collect(numbers.split(100), extractor, keep=200)
    halves = [
        reference.collect(part.split(70), extractor, keep=100)
        for part in (numbers[:900], numbers[900:])
    ]
    for name, part in (("one", whole), ("two", halves[0] + halves[1])):
        reference.write(tmp_path / f"{name}.npz", part, extractor)
    one, two = (reference.read(tmp_path / f"{name}.npz", extractor) for name in ("one", "two"))
    assert one.n == two.n == 1797 and one.kept == two.kept == 200
    for layer in STATISTICS:
        for a, b in zip(one.statistics[layer], two.statistics[layer], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["one.npz", "two.npz"]
    with np.load(tmp_path / "one.npz", allow_pickle=False) as file:
        assert file["arr_0"].shape == (200, 16, 16, 1) and file["arr_0"].dtype == np.uint8


def test_our_own_file_is_read_without_a_forward(
    tmp_path: Path, numbers: Tensor, extractor: Loaded
) -> None:
    part = reference.collect(numbers.split(100), extractor, keep=200)
    reference.write(tmp_path / "own.npz", part, extractor)

    class Broken(torch.nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            raise AssertionError("a forward")

    found = reference.read(tmp_path / "own.npz", replace(extractor, network=Broken()))
    expected = extractor(torch.from_numpy(part.images).permute(0, 3, 1, 2))
    assert found.features.keys() == {"pool"} and found.features["pool"].dtype == torch.float32
    torch.testing.assert_close(found.features["pool"], expected["pool"])


def test_features_that_are_damaged_or_of_others_are_refused(
    tmp_path: Path, numbers: Tensor, extractor: Loaded
) -> None:
    path, part = tmp_path / "bad.npz", reference.collect([numbers[:50]], extractor, keep=50)
    for rows, fault in (
        (
            np.full((50, 64), np.nan, np.float32),
            "features_pool of .* has 3200 numbers that are",
        ),
        (np.zeros((49, 64), np.float32), r"has shape \(49, 64\), digits-cnn-1 gives \(50, 64\)"),
        (np.zeros((50, 64), np.int64), "is int64, not float32"),
    ):
        reference.write(path, replace(part, features={"pool": rows}), extractor)
        with pytest.raises(UserError, match=fault):
            reference.read(path, extractor)


def test_images_of_another_side_are_refused(extractor: Loaded) -> None:
    with pytest.raises(UserError, match="digits-cnn-1 reads images 8 or 16 wide, not 28: take"):
        extractor(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


def test_kept_images_come_from_the_whole_stream(extractor: Loaded) -> None:
    """The pixels of an image are its number: the mean of 500 of 5,000 sorted ones is central."""
    stream = (
        torch.arange(250, dtype=torch.uint8)
        .repeat_interleave(20)[:, None, None, None]
        .expand(-1, 1, 16, 16)
    )
    kept = reference.collect(stream.split(250), extractor, keep=500).images
    assert len(kept) == 500 and abs(kept.mean() - 124.5) < 10


def test_digest_of_images_is_theirs_whatever_the_batches(
    numbers: Tensor, extractor: Loaded
) -> None:
    one, two = (
        reference.from_images("digits", numbers[:300].split(size), extractor) for size in (300, 77)
    )
    assert one.digest == two.digest and one.n == 300
    assert one.digest != reference.from_images("digits", [numbers[1:301]], extractor).digest


def test_samples_are_written_as_numpy_would(tmp_path: Path, numbers: Tensor) -> None:
    colour = numbers[:70].expand(-1, 3, -1, -1)
    write_array(tmp_path / "samples.npz", colour.split(32), 70)
    with np.load(tmp_path / "samples.npz", allow_pickle=False) as file:
        assert file.files == ["arr_0"]
        np.testing.assert_array_equal(file["arr_0"], nhwc(colour))
    with zipfile.ZipFile(tmp_path / "samples.npz") as archive:
        (member,) = archive.infolist()
        assert (member.filename, member.compress_type) == ("arr_0.npy", zipfile.ZIP_STORED)
    assert torch.equal(torch.cat(list(read_array(tmp_path / "samples.npz", 9))), colour)


@pytest.mark.parametrize("n", [0, 69, 71])
def test_another_number_of_samples_leaves_no_file(tmp_path: Path, numbers: Tensor, n: int) -> None:
    with pytest.raises(ValueError, match="bytes of pixels came"):
        write_array(tmp_path / "samples.npz", numbers[:70].split(32), n)
    assert not list(tmp_path.iterdir())


BAD_ARRAYS: dict[str, tuple[Any, str]] = {
    "float": (np.zeros((5, 16, 16, 1), np.float32), "is float32, not uint8: store clamp"),
    "nan": (np.full((5, 16, 16, 1), np.nan), "is float64 with NaN, not uint8"),
    "pickled": (np.array([{}, {}], dtype=object), "holds pickled objects, which are never loaded"),
    "grey": (np.zeros((5, 16, 16), np.uint8), r"has shape \(5, 16, 16\), not"),
    "oblong": (np.zeros((5, 16, 8, 1), np.uint8), r"has shape \(5, 16, 8, 1\), not"),
    "none": (np.zeros((0, 16, 16, 1), np.uint8), r"has shape \(0, 16, 16, 1\), not"),
    "colour": (np.zeros((5, 16, 16, 3), np.uint8), "has 3 channels, digits-cnn-1 reads 1"),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
def test_bad_arrays_are_refused(tmp_path: Path, extractor: Loaded, kind: str) -> None:
    array, message = BAD_ARRAYS[kind]
    np.savez(tmp_path / "bad.npz", arr_0=array)
    with pytest.raises(ValueError, match=message):
        reference.read(tmp_path / "bad.npz", extractor)


def test_bad_files_are_refused(tmp_path: Path, numbers: Tensor, extractor: Loaded) -> None:
    path = tmp_path / "bad.npz"
    with pytest.raises(ValueError, match=r"bad.npz is not a whole npz \(.*No such file"):
        reference.read(path, extractor)
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="not a whole npz"):
        reference.read(path, extractor)
    np.savez(path, arr_1=np.zeros(3))
    with pytest.raises(ValueError, match="holds no arr_0"):
        reference.read(path, extractor)
    stored = statistics(64)
    del stored["mu_s"]
    np.savez(path, arr_0=nhwc(numbers[:5]), **stored)
    with pytest.raises(ValueError, match="has no mu_s"):
        reference.read(path, extractor)
    np.savez(path, arr_0=nhwc(numbers[:5]), **statistics(64) | {"mu": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="holds pickled objects, which are never loaded"):
        reference.read(path, extractor)
    np.savez(path, arr_0=nhwc(numbers[:5]), **statistics(2048))
    with pytest.raises(
        ValueError, match=r"mu of .* has shape \(2048,\), digits-cnn-1 gives \(64,\)"
    ):
        reference.read(path, extractor)
    np.savez(path, arr_0=nhwc(numbers[:5]), extractor_digest="f" * 64, **statistics(64))
    with pytest.raises(ValueError, match="was not made by digits-cnn-1"):
        reference.read(path, extractor)


def with_sigma(change: Any) -> dict[str, Any]:
    sigma = np.eye(64)
    change(sigma)
    return statistics(64) | {"sigma": sigma}


def set_at(i: int, j: int, value: float) -> Any:
    return lambda x: x.__setitem__((i, j), value)


BAD_STATISTICS: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": (statistics(64) | {"mu": np.full(64, np.nan)}, "mu of .* has 64 numbers that are not f"),
    "inf": (with_sigma(set_at(1, 1, np.inf)), "sigma of .* has 1 numbers that are not finite"),
    "negative": (with_sigma(set_at(3, 3, -1)), "sigma of .* has a variance of -1"),
    "all negative": (statistics(64) | {"sigma_s": -np.eye(256)}, "sigma_s of .* variance of -1"),
    "lopsided": (with_sigma(set_at(0, 9, 0.5)), "sigma of .* is not symmetric, by 0.5"),
    "whole numbers": (statistics(64) | {"sigma": np.eye(64, dtype=np.int8)}, "sigma of .* is int8"),
    "complex": (statistics(64) | {"sigma": np.eye(64, dtype=complex)}, "sigma .* is complex128"),
    "a number": (statistics(64) | {"mu": np.float64(1)}, r"mu of .* has shape \(\), digits"),
    "a row": (statistics(64) | {"sigma": np.ones(64)}, r"sigma of .* has shape \(64,\), digits"),
    "a point": (statistics(64) | {"sigma": np.ones((1, 1))}, r"sigma of .* has shape \(1, 1\)"),
    "no images": (statistics(64) | {"n_images": -5}, "n_images of .* is -5, not a number of"),
    "a list of images": (statistics(64) | {"n_images": [1, 2]}, r"n_images of .* is \[1 2\], not"),
    "half an image": (statistics(64) | {"n_images": 0.5}, "n_images of .* is 0.5, not"),
}


@pytest.mark.parametrize("kind", BAD_STATISTICS)
def test_statistics_that_are_none_are_refused(tmp_path: Path, kind: str) -> None:
    arrays, message = BAD_STATISTICS[kind]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(UserError, match=message) as error:
        read_statistics(tmp_path / "bad.npz", "digits-cnn-1")
    assert "\n" not in str(error.value)


def test_dead_features_and_rounding_are_taken(tmp_path: Path) -> None:
    """A feature that never fires has variance 0; sums in fp32 are symmetric but for rounding."""
    np.savez(tmp_path / "good.npz", **with_sigma(set_at(5, 5, 0)))
    read_statistics(tmp_path / "good.npz", "digits-cnn-1")
    np.savez(tmp_path / "good.npz", **with_sigma(set_at(0, 1, 1e-6)))
    read_statistics(tmp_path / "good.npz", "digits-cnn-1")


def test_widths_are_those_of_the_extractor(numbers: Tensor, extractor: Loaded) -> None:
    found = extractor(numbers[:1])
    assert {layer: x.shape[1] for layer, x in found.items()} == dict(extractor.layers)
    assert statistics_shapes(extractor.name)["sigma_s"] == (256, 256)


def headed(header: str) -> bytes:
    """An npy file of this header and no data."""
    text = header.encode("latin1").ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


HEADERS = {
    "negative sides": "{'descr': '|u1', 'fortran_order': False, 'shape': (5, -16, -16, 1)}",
    "more than there is": "{'descr': '|u1', 'fortran_order': False, 'shape': (10**3, 16, 16, 1)}",
    "a petabyte": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 16, 16, 1)}",
    "an open bracket": "{'descr': '|u1', 'fortran_order': False, 'shape': (5, 16",
    "nonsense": "][",
    "deep": "(" * 110,
}


@pytest.mark.parametrize("kind", HEADERS)
def test_crafted_headers_are_refused(tmp_path: Path, kind: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("arr_0.npy", headed(HEADERS[kind]))
    with pytest.raises(UserError, match=r"bad.npz"):
        list(read_array(tmp_path / "bad.npz"))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", arr_0=np.zeros((5, 16, 16, 1), np.uint8))
    data = bytearray((tmp_path / "bad.npz").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(UserError, match=r"bad.npz is not a whole npz .*password"):
        image_shape(tmp_path / "bad.npz")


def arrays_or_fault(path: Path) -> dict[str, Any] | str:
    """The arrays of a damaged file, or the line that refuses it."""
    try:
        return read_arrays(path, ("mu", "n_images"))
    except UserError as error:
        return str(error)


def test_damage_anywhere_is_named_or_changes_nothing(tmp_path: Path) -> None:
    path, random = tmp_path / "some.npz", np.random.default_rng(0)
    np.savez_compressed(path, mu=random.random(64), n_images=7)
    whole, arrays = path.read_bytes(), read_arrays(path, ("mu", "n_images"))
    for trial in range(400):
        data = bytearray(whole)
        if trial % 4:
            data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        else:
            del data[random.integers(len(data)) :]
        path.write_bytes(data)
        found = arrays_or_fault(path)
        if isinstance(found, str):
            assert "some.npz" in found and "\n" not in found
        else:
            assert all(np.array_equal(x, arrays[key]) for key, x in found.items())


def test_a_cut_file_is_refused(tmp_path: Path, numbers: Tensor, extractor: Loaded) -> None:
    np.savez(tmp_path / "cut.npz", arr_0=nhwc(numbers[:50]))
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="not a whole npz"):
        reference.read(tmp_path / "cut.npz", extractor)
    (tmp_path / "cut.npz").write_bytes(whole[:2000] + bytes(100) + whole[2100:])
    with pytest.raises(ValueError, match="not a whole npz"):
        list(read_array(tmp_path / "cut.npz", 64))
