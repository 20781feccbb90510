"""Any set of images against a reference: what `harness evaluate --samples` and `harness parity` print."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import reduce
from itertools import islice
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from harness.base.distributed import Rank
from harness.base.errors import UserError
from harness.base.npz import image_shape, image_side
from harness.scoring import features, metrics, reference
from harness.scoring.arrays import read_array

BATCH = 64  # images read at a time
SCORES = (*metrics.DEFAULT_METRICS, "precision_fp16", "recall_fp16")
MODES = {1: "L", 3: "RGB"}  # Pillow's names by number of channels
JPEG = (".jpg", ".jpeg")
SUFFIXES = (".png", ".webp", ".bmp", ".tif", ".tiff", *JPEG)
PARITY = Path(__file__).with_name("adm_parity.json")


def score(
    samples: Path,
    against: Path,
    inception: Path | None = None,
    extractor: str = "inception",
    names: Iterable[str] = SCORES,
    batch: int = 16,  # on a CPU as fast as 64, with a quarter of the memory
    device: str = "cpu",
) -> dict[str, Any]:
    """Scores an npz (`arr_0`, uint8 NHWC) or a folder of images against a reference npz: JSON-ready values and origins.

    Weights named by `inception` are used whatever their digest, with a warning. A folder is read in
    the order of its file names, which matters to the Inception score alone: see
    `metrics.inception_score`.

    Raises:
        ValueError: bad samples, reference or weights, said before the first image goes through the
        network.
    """
    network = features.load(extractor, inception, device, allow_other_digest=inception is not None)
    n, side, images = open_images(samples, network.channels, batch)
    if side != image_side(against) != 0:
        raise UserError(
            f"{samples} is {side} pixels wide, {against} {image_side(against)}: take one of that size"
        )
    target = reference.read(against, network, batch)
    found = features.extract(tqdm(images, total=-(-n // batch), unit="batch"), network)
    width = found["pool"].shape[1]
    few = [f"reference: {text}" for text in metrics.warnings(target.n, width) if target.n]
    warnings = [*network.warnings, *metrics.warnings(n, width), *few, *_lossy(samples)]
    origin = {
        "extractor": network.name,
        "extractor_digest": network.digest,
        "reference_digest": target.digest,
    }
    return {**metrics.values(found, target, names), "n": n, "warnings": warnings, **origin}


def open_images(path: Path, channels: int, batch: int = BATCH) -> tuple[int, int, Iterator[Tensor]]:
    """Number and side of the images in an npz or a folder, and a stream of them: uint8 [N, channels, side, side].

    Raises:
        ValueError: there are none, or some cannot be used; in a folder all of those are counted and
        the first named.
    """
    if path.is_dir():
        files = _files(path)
        side = _checked(path, files, channels)
        return len(files), side, _decoded(files, batch)
    n, side, found = image_shape(path)
    if found != channels:
        raise UserError(f"images of {path} have {found} channels, not {channels}: convert them")
    return n, side, read_array(path, batch)


def make_reference(images: Path, out: Path, network: features.Extractor, rank: Rank) -> int:
    """Writes the statistics of a folder or an npz, ranks taking batches in turn; the number of images."""
    count, _, batches = open_images(images, network.channels)
    mine = islice(batches, rank.index, None, rank.world)
    shown = tqdm(
        mine, total=-(-count // BATCH) // rank.world, unit="batch", disable=not rank.is_main
    )
    parts = rank.gather(reference.collect(shown, network, keep=reference.KEPT // rank.world))
    if rank.is_main:
        reference.write(out, reduce(add, parts), network)
    return count


def _files(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(
            f"no images in {folder}: give a folder that holds {', '.join(SUFFIXES)} files itself"
        )
    return files


def _checked(folder: Path, files: list[Path], channels: int) -> int:
    """The side that all images share."""
    faults = {file.name: fault for file in files if (fault := _fault(file, MODES[channels]))}
    if faults:
        named = "; ".join(f"{name} {fault}" for name, fault in list(faults.items())[:5])
        raise UserError(
            f"{len(faults)} of {len(files)} images in {folder} cannot be used ({named}): replace them"
        )
    sizes = {Image.open(file).size for file in files}
    if len(sizes) > 1 or len(set(*sizes)) > 1:
        raise UserError(
            f"images in {folder} have sizes {sorted(sizes)[:5]}: bring them to one square size"
        )
    return int(sizes.pop()[0])


def _fault(file: Path, mode: str) -> str:
    """What is wrong with a file, seen without decoding it where its format has checksums."""
    try:
        with Image.open(file) as image:
            image.verify() if image.format == "PNG" else image.load()
            return "" if image.mode == mode else f"is {image.mode}, not {mode}"
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        return f"is unreadable: {error}"


def _decoded(files: list[Path], batch: int) -> Iterator[Tensor]:
    for start in range(0, len(files), batch):
        images = np.stack([np.asarray(Image.open(file)) for file in files[start : start + batch]])
        yield torch.from_numpy(images.reshape(*images.shape[:3], -1)).permute(0, 3, 1, 2)


def _lossy(samples: Path) -> list[str]:
    count = (
        sum(file.suffix.lower() in JPEG for file in samples.iterdir()) if samples.is_dir() else 0
    )
    return (
        [f"{count} images are JPEG: its compression changes FID, store PNG or arrays"]
        if count
        else []
    )


def parity(
    samples: Path, against: Path, inception: Path | None = None, device: str = "cpu"
) -> list[dict[str, Any]]:
    """Our five numbers of ADM's published files beside TensorFlow's: metric, ours, known, bound, within."""
    published = json.loads(PARITY.read_text())
    ours = score(samples, against, inception, names=tuple(published["known"]), device=device)
    rows = []
    for metric, known in published["known"].items():
        apart, bound = (
            round(abs(ours[metric] - known), 4),
            published["bound"][metric],
        )  # as many digits as published
        rows.append(
            {
                "metric": metric,
                "ours": ours[metric],
                "known": known,
                "bound": bound,
                "within": apart <= bound,
            }
        )
    return rows


def parity_table(rows: list[dict[str, Any]]) -> str:
    """The rows of `parity` as lines of text."""
    lines = [f"{'metric':<16}{'ours':>10}{'known':>10}{'bound':>8}"]
    for row in rows:
        verdict = "within" if row["within"] else "OUTSIDE"
        lines.append(
            f"{row['metric']:<16}{row['ours']:>10.4f}{row['known']:>10.4f}{row['bound']:>8.4f}  {verdict}"
        )
    return "\n".join(lines)
