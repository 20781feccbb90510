"""Reference sets in ADM's npz format: statistics read, computed, merged over ranks, written; images as streams."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import atomic_write, sha256
from harness.scoring.features import Extractor, Features, extract

Array = np.ndarray[Any, Any]
STATISTICS = (
    "mu",
    "sigma",
    "mu_s",
    "sigma_s",
)  # ADM's keys: of the pooled layer, and of the spatial one
KEPT = 10_000  # images that ADM ships beside them, for precision and recall


@dataclass(frozen=True)
class Moments:
    """Number, mean [D] and scatter [D, D] (summed outer products of deviations) in float64; `+` joins two sets."""

    n: int
    mean: Array
    scatter: Array

    def __add__(self, other: Moments) -> Moments:
        """Chan, Golub & LeVeque 1979: sums of raw products would cancel where the mean is large."""
        n, apart = self.n + other.n, other.mean - self.mean
        between = np.outer(apart, apart) * (self.n * other.n / n)
        return Moments(n, self.mean + apart * (other.n / n), self.scatter + other.scatter + between)

    @property
    def sigma(self) -> Array:
        """Unbiased covariance [D, D]; ValueError for fewer than two rows."""
        if self.n < 2:
            raise UserError(f"{self.n} image has no covariance: give at least 2")
        return self.scatter / (self.n - 1)


def moments(features: Tensor) -> Moments:
    """Moments of [N, D], by blocks: 50,000 rows of Inception in float64, twice over, would be 1.6 GB."""
    return reduce(Moments.__add__, map(_block_moments, torch.split(features, 4096)))


def _block_moments(rows: Tensor) -> Moments:
    x = rows.to(torch.float64, copy=True)  # float64 features would be centred in place
    mean = x.mean(0)
    x -= mean
    return Moments(len(x), mean.numpy(), (x.T @ x).numpy())


@dataclass(frozen=True, eq=False)  # compared and hashed by identity: it holds arrays
class Reference:
    """What samples are compared with: float64 statistics of both layers, and fp32 `pool` [images, D] of its images.

    `n` images are behind the statistics where the file says so. ADM's files do not: there it counts
    the images they hold (10,000), while mu and sigma are those of the whole training set.
    """

    name: str
    digest: str
    n: int
    resolution: int
    channels: int
    mu: Array
    sigma: Array
    mu_s: Array
    sigma_s: Array
    pool: Tensor


def from_images(name: str, images: Iterable[Tensor], extractor: Extractor) -> Reference:
    """Reference of a stream of uint8 batches [N, C, H, H]; the digest is of the pixels, however they are batched."""
    hashed, shape = hashlib.sha256(), list[int]()

    def watched() -> Iterator[Tensor]:
        for batch in images:
            hashed.update(batch.numpy().tobytes())
            shape[:] = batch.shape[1:]
            yield batch

    features = extract(watched(), extractor)
    return _of_features(name, hashed.hexdigest(), features, shape[1], shape[0])


def _of_features(name: str, digest: str, features: Features, side: int, channels: int) -> Reference:
    pool, spatial = moments(features["pool"]), moments(features["spatial"])
    statistics = (pool.mean, pool.sigma, spatial.mean, spatial.sigma)
    return Reference(name, digest, pool.n, side, channels, *statistics, features["pool"])


def read(path: Path, extractor: Extractor, batch: int = 64) -> Reference:
    """Reference from ADM's npz or ours: `arr_0`, uint8 NHWC, and `mu`, `sigma`, `mu_s`, `sigma_s`, one or the other.

    Statistics that are absent are computed from the images, as ADM does; a file without images
    serves all metrics but precision, recall and KID, and has resolution 0. Other keys are ignored,
    only that ours names its extractor.

    Raises:
        ValueError: not such a file, or one of other channels or of another extractor.
    """
    stored, digest, channels = _stored(path, extractor), sha256(path), extractor.channels
    pool = torch.empty(0, len(stored.get("mu", ())))
    if side(path) or not stored:
        if array_shape(path)[2] != channels:
            raise UserError(
                f"{path} has {array_shape(path)[2]} channels, {extractor.name} reads {channels}: no pair"
            )
        features = extract(read_array(path, batch), extractor)
        if not stored:
            return _of_features(path.stem, digest, features, side(path), channels)
        pool = features["pool"]
    mu, sigma, mu_s, sigma_s = (stored[key].astype(np.float64) for key in STATISTICS)
    if pool.shape[1] != len(mu):
        raise UserError(
            f"mu of {path} has {len(mu)} entries, {extractor.name} gives {pool.shape[1]}: no pair"
        )
    n = int(stored.get("n_images", len(pool)))
    return Reference(path.stem, digest, n, side(path), channels, mu, sigma, mu_s, sigma_s, pool)


def _stored(path: Path, extractor: Extractor) -> dict[str, Any]:
    """The statistics and what our own files add to them, or nothing."""
    with _opened(path), np.load(path, allow_pickle=False) as file:
        absent = [key for key in STATISTICS if key not in file]
        if len(absent) == len(STATISTICS):
            return {}
        if absent:
            raise UserError(
                f"{path} has no {', '.join(absent)}: take a whole file, or one without statistics"
            )
        try:
            stored = {
                key: file[key]
                for key in (*STATISTICS, "n_images", "extractor_digest")
                if key in file
            }
        except ValueError as error:  # numpy names neither the file nor the remedy
            raise UserError(
                f"{path} holds pickled objects, which are never loaded: make it anew"
            ) from error
    if str(stored.get("extractor_digest", extractor.digest)) != extractor.digest:
        raise UserError(
            f"{path} was not made by {extractor.name} {extractor.digest[:8]}: make it anew"
        )
    return stored


@dataclass(frozen=True)
class Part:
    """What one rank saw of a reference set: moments of both layers and a fair sample of images; `+` joins ranks."""

    pool: Moments
    spatial: Moments
    images: Array

    def __add__(self, other: Part) -> Part:
        images = np.concatenate([self.images, other.images])
        return Part(self.pool + other.pool, self.spatial + other.spatial, images)


def collect(
    images: Iterable[Tensor], extractor: Extractor, keep: int = KEPT, seed: int = 0
) -> Part:
    """Moments of a stream of uint8 batches [N, C, H, W], and `keep` of its images, each as likely as any other.

    Not the first ones: a training set often comes sorted by class. Of several ranks with equal
    shares each keeps its part of KEPT; the sum of their parts goes to `write`.
    """
    kept: list[Array] = []
    totals: dict[str, Moments] = {}
    stream = _sampled(images, kept, keep, np.random.default_rng(seed))
    while batches := [
        extractor(batch) for batch in islice(stream, 64)
    ]:  # joining moments costs D x D: not every batch
        for layer in ("pool", "spatial"):
            fresh = moments(torch.cat([batch[layer] for batch in batches]))
            totals[layer] = totals[layer] + fresh if layer in totals else fresh
    if not kept:
        raise UserError("no images to make a reference of: name a folder or a file that has some")
    return Part(totals["pool"], totals["spatial"], np.stack(kept))


def _sampled(
    images: Iterable[Tensor], kept: list[Array], keep: int, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Passes batches on and leaves `keep` of their images, [H, W, C], in `kept` (Vitter's algorithm R)."""
    seen = 0
    for batch in images:
        for image in batch.permute(0, 2, 3, 1).numpy():
            seen += 1
            if len(kept) < keep:
                kept.append(image.copy())  # a view would hold on to its whole batch
            elif (place := rng.integers(seen)) < keep:
                kept[place] = image.copy()
        yield batch


def write(path: Path, part: Part, extractor: Extractor) -> None:
    """ADM's npz, uncompressed, with `n_images` and `extractor_digest` added: ADM passes over what it does not know."""
    statistics = (part.pool.mean, part.pool.sigma, part.spatial.mean, part.spatial.sigma)
    named: dict[str, Any] = dict(zip(STATISTICS, statistics, strict=True))
    with atomic_write(path) as beside, beside.open("wb") as file:
        np.savez(
            file,
            arr_0=part.images,
            n_images=part.pool.n,
            extractor_digest=extractor.digest,
            **named,
        )


def write_array(path: Path, images: Iterable[Tensor], n: int) -> None:
    """`n` images of uint8 batches [N, C, H, W] as the npz that ADM's evaluator reads; none are held.

    Raises:
        ValueError: other than n images of one shape came; no file is left.
    """
    written = expected = 0
    with atomic_write(path) as beside:
        with (
            zipfile.ZipFile(beside, "w") as archive,
            archive.open("arr_0.npy", "w", force_zip64=True) as file,
        ):
            for batch in images:
                pixels = batch.permute(0, 2, 3, 1).numpy()
                if not written:
                    shape = (n, *pixels.shape[1:])
                    expected = math.prod(shape)
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                written += file.write(pixels.tobytes())
        if not written or written != expected:
            raise UserError(
                f"{written} bytes of pixels came for {path}, {n} images have {expected}: nothing written"
            )


def array_shape(path: Path) -> tuple[int, int, int]:
    """Number, side and channels of the images in an npz; ValueError unless `arr_0` is uint8 [N, side, side, C]."""
    with _array(path) as (_, shape):
        return shape


def side(path: Path) -> int:
    """Width of the images in an npz, 0 where it has none."""
    with _opened(path) as archive:
        return array_shape(path)[1] if "arr_0.npy" in archive.namelist() else 0


def read_array(path: Path, batch: int = 64) -> Iterator[Tensor]:
    """uint8 batches [N, C, H, W] of `arr_0`, read from the file as they are asked for, compressed or not."""
    with _array(path) as (file, (n, side, channels)):
        for start in range(0, n, batch):
            size = (min(batch, n - start), side, side, channels)
            pixels = file.read(math.prod(size))
            if len(pixels) != math.prod(size):
                raise UserError(
                    f"{path} ends before image {start + size[0]} of {n}: fetch or write it again"
                )
            yield (
                torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
                .view(size)
                .permute(0, 3, 1, 2)
            )


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is not a whole npz ({error}): fetch or write it again") from None


@contextmanager
def _array(path: Path) -> Iterator[tuple[IO[bytes], tuple[int, int, int]]]:
    """The bytes of `arr_0` behind its header, and its number, side and channels."""
    with _opened(path) as archive:
        if "arr_0.npy" not in archive.namelist():
            raise UserError(f"{path} holds no arr_0: store images there, uint8 [N, side, side, C]")
        with archive.open("arr_0.npy") as file:
            major, _ = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if major == 1
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read_header(file)
            _refuse(path, file, dtype)
            if len(shape) != 4 or shape[1] != shape[2] or fortran or not shape[0]:
                raise UserError(
                    f"arr_0 of {path} has shape {shape}, not [N > 0, side, side, channels] in C order"
                )
            yield file, (shape[0], shape[1], shape[3])


def _refuse(path: Path, file: IO[bytes], dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise UserError(
            f"arr_0 of {path} holds pickled objects, which are never loaded: write it as uint8"
        )
    if dtype != np.uint8:
        start = np.frombuffer(file.read(dtype.itemsize * 10**6), dtype)  # a million numbers tell
        nan = " with NaN" if dtype.kind == "f" and np.isnan(start).any() else ""
        raise UserError(
            f"arr_0 of {path} is {dtype}{nan}, not uint8: store clamp(127.5 x + 128, 0, 255)"
        )
