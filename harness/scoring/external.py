"""Images from anywhere against a reference: `harness score`, `parity` and `reference`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import islice
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.images import JPEG, SUFFIXES, Unreadable, decode, inspect, read_file
from harness.base.npz import Array, image_shape, image_side
from harness.base.text import aligned
from harness.metrics import default_names
from harness.metrics.values import rows_of, values, warnings
from harness.scoring import features, reference
from harness.scoring.arrays import read_array

BATCH = 64  # images read at a time
SLOW = ("kid", "fid_infinity", "fid_infinity_low", "fid_infinity_high")  # minutes each
MODES = {1: "L", 3: "RGB"}  # Pillow's names by number of channels
PARITY = Path(__file__).with_name("adm_parity.json")


def score(
    samples: Path,
    against: Path,
    weights: Path | None = None,
    extractor: str = "inception",
    names: Iterable[str] = (),
    batch: int = 16,  # on a CPU as fast as 64, with a quarter of the memory
    device: str = "cpu",
) -> dict[str, Any]:
    """Scores an npz (`arr_0`, uint8 NHWC) or a folder of images against a reference npz.

    Returns JSON-ready values, warnings and origins.

    Weights that are named are used whatever their digest, with a warning. A folder is read in the
    order of its file names, which matters to the Inception score alone: see
    `harness.metrics.logits`. Without `names` all defaults of the extractor are computed, but those
    that take minutes.

    Raises:
        UserError: bad samples, reference or weights, before the first image goes through the
            network where that can be seen.
    """
    network = features.load(extractor, weights, device, allow_other_digest=weights is not None)
    wanted = tuple(names) or tuple(
        name for name in default_names(extractor, network.layers) if name not in SLOW
    )
    rows_of(wanted, network.layers)
    n, side, images = open_images(samples, network.channels, batch)
    if side != image_side(against) != 0:
        raise UserError(
            f"{samples} is {side} pixels wide, {against} {image_side(against)}: take one of"
            " that size"
        )
    target = reference.read(against, network, batch)
    measured = features.extract(tqdm(images, total=-(-n // batch), unit="batch"), network)
    few = [f"reference: {text}" for text in warnings(target.n, network.layers) if target.n]
    notes = [*network.warnings, *warnings(n, network.layers), *few, *lossy(samples)]
    origin = {
        "extractor": network.name,
        "extractor_digest": network.digest,
        "reference_digest": target.digest,
    }
    return {**values(measured, target, wanted), "n": n, "warnings": notes, **origin}


def open_images(path: Path, channels: int, batch: int = BATCH) -> tuple[int, int, Iterator[Tensor]]:
    """Number and side of the images in an npz or a folder, and a stream of batches.

    A batch is uint8 [N, channels, side, side].

    Raises:
        UserError: there are none, or some cannot be used; in a folder all of those are counted and
            the first named.
    """
    if path.is_dir():
        files = files_of(path)
        side = common_side(path, files, channels)
        return len(files), side, decoded(files, batch)
    n, side, stored = image_shape(path)
    if stored != channels:
        raise UserError(f"images of {path} have {stored} channels, not {channels}: convert them")
    return n, side, read_array(path, batch)


def make_reference(
    count: int, batches: Iterable[Tensor], out: Path, network: features.Loaded, rank: Rank
) -> None:
    """Writes the statistics of `count` images, uint8 [N, channels, side, side] in batches.

    Ranks take batches in turn.
    """
    mine = islice(batches, rank.index, None, rank.world)
    total = -(-count // BATCH) // rank.world
    shown = tqdm(mine, total=total, unit="batch", disable=not rank.is_main)
    parts = rank.gather(reference.collect(shown, network, keep=reference.KEPT // rank.world))
    if rank.is_main:
        reference.write(out, reduce(add, parts), network)


def files_of(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        UserError: there are none.
    """
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(
            f"no images in {folder}: give a folder that holds {', '.join(SUFFIXES)} files itself"
        )
    return files


def common_side(folder: Path, files: list[Path], channels: int) -> int:
    """The side that all images share.

    Raises:
        UserError: some cannot be used, counted and the first named; or sizes differ.
    """
    sizes, faults = set[tuple[int, int]](), list[str]()
    for file in files:
        try:
            mode, size = inspect(read_file(file))
        except Unreadable as fault:
            faults.append(f"{file.name} is unreadable: {fault}")
            continue
        sizes.add(size)
        if mode != MODES[channels]:
            faults.append(f"{file.name} is {mode}, not {MODES[channels]}")
    if faults:
        raise UserError(
            f"{len(faults)} of {len(files)} images in {folder} cannot be used"
            f" ({'; '.join(faults[:5])}): replace them"
        )
    if len(sizes) > 1 or len(set(*sizes)) > 1:
        raise UserError(
            f"images in {folder} have sizes {sorted(sizes)[:5]}: bring them to one square size"
        )
    return sizes.pop()[0]


def decoded(files: list[Path], batch: int) -> Iterator[Tensor]:
    """uint8 [N, C, side, side] of files that common_side() accepted.

    Raises:
        UserError: one whose checksums are right cannot be decoded, or changed since.
    """
    for start in range(0, len(files), batch):
        images = np.stack([pixels(file) for file in files[start : start + batch]])
        yield torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2)


def pixels(file: Path) -> Array:
    try:
        return np.asarray(decode(read_file(file)))
    except Unreadable as fault:
        raise UserError(f"{file} is unreadable: {fault}: replace it") from None


def lossy(samples: Path) -> list[str]:
    """A warning where some of the images are JPEG."""
    if not samples.is_dir():
        return []
    count = sum(file.suffix.lower() in JPEG for file in samples.iterdir())
    text = f"{count} images are JPEG: its compression changes FID, store PNG or arrays"
    return [text] if count else []


def parity(
    samples: Path, against: Path, inception: Path | None = None, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Our five numbers of ADM's published files beside TensorFlow's: the rows of `compare`."""
    names = tuple(json.loads(PARITY.read_text())["known"])
    return compare(score(samples, against, inception, names=names, device=device))


def compare(ours: Mapping[str, float]) -> list[dict[str, Any]]:
    """Our values beside the published ones: rows of metric, ours, known, bound, within."""
    published = json.loads(PARITY.read_text())
    rows = []
    for metric, known in published["known"].items():
        bound = published["bound"][metric]
        difference = round(abs(ours[metric] - known), 4)  # as many digits as published
        row = {"metric": metric, "ours": ours[metric], "known": known, "bound": bound}
        rows.append({**row, "within": difference <= bound})
    return rows


def parity_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `parity` as lines of text."""
    lines = [
        (
            row["metric"],
            *(f"{row[name]:.4f}" for name in ("ours", "known", "bound")),
            "within" if row["within"] else "OUTSIDE",
        )
        for row in rows
    ]
    return aligned(("metric", "ours", "known", "bound", ""), lines)
