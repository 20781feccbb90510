"""The files of other programs: safetensors, torch.save without unpickling, folders by name."""

from __future__ import annotations

import argparse
import errno
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import is_whole, read_json
from harness.base.tensors import load_tensors, read_metadata
from harness.exchange.contents import Contents, cleaned, number, parted, read_origin
from harness.exchange.diffusers_names import POSITIONS
from harness.models.layers import sincos_2d

# What config.json of DiTTransformer2DModel must say, and the numbers that are read of it.
DIT = {"norm_type": "ada_norm_zero", "activation_fn": "gelu-approximate", "attention_bias": True}
MOST = 1 << 28  # numbers of a table of positions: 1 GB
SHAPE = ("num_attention_heads", "attention_head_dim", "sample_size", "patch_size")
# What torch's reader raises of a file that was cut, or is none of its own.
TRIPS = (
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)
# How torch's reader says what else a pickle calls for.
FOREIGN = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module)|class (\S+?)[,.]? ")
UVIT = "nnet_ema.pth"  # of the folder 500000.ckpt that U-ViT's training writes
# train.py's 0400000.pt; ema_0.9999_400000.pt and model400000.pt of MDT and ADM.
NUMBERED = re.compile(r"(?:model|ema_0?\.\d+_)?(\d+)")
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # diffusers' names


def read(path: Path) -> Contents:
    """Reads a safetensors file, a file of torch.save, or a folder of diffusers.

    Raises:
        UserError: there is none, it is damaged, or it holds what only a full unpickling would load.
    """
    if path.is_dir():
        found = uvit_folder(path) if (path / UVIT).exists() else diffusers_folder(path)
    elif not path.exists():
        raise UserError(f"there is nothing at {path}: name a checkpoint or a folder of diffusers")
    elif path.suffix == ".safetensors" or is_whole(path):
        found = Contents([path], tensors_of(path))
        read_origin(found, read_metadata(path))
    else:
        found = parted(path, unpickled(path))
    if found.step is None and (named := NUMBERED.fullmatch(path.stem)):
        found.step = number(named[1])
    found.tensors = cleaned(path, found.tensors, found.notes)
    found.raw = None if found.raw is None else cleaned(path, found.raw, [])
    return found


def tensors_of(path: Path) -> dict[str, Tensor]:
    """
    Raises:
        UserError: the file of safetensors is damaged.
        OSError: it may not be read, which safetensors would not say with its name.
    """
    path.open("rb").close()
    return load_tensors(path)


def unpickled(path: Path) -> Any:
    """What torch.save wrote: tensors, plain values and argparse's Namespace, and no other class.

    Raises:
        UserError: it holds another class, is damaged, or was not written by torch.save.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped or path.open("rb").read(2) == b"PK":  # torch passes over the checksums, and trips
        check_archive(path)  # over an archive that was cut
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol
            return torch.load(path, "cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if named := FOREIGN.search(str(error)):
            kind = named[1] or named[2]
            raise UserError(
                f"{path} holds {kind} beside tensors and an argparse.Namespace: it is not"
                " unpickled, as that may run any code; save its state dict alone"
            ) from None
        raise unreadable(path) from None
    except TRIPS:
        raise unreadable(path) from None


def check_archive(path: Path) -> None:
    """
    Raises:
        UserError: the archive is cut, or a part of it has another checksum than was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save never compresses, and a small archive that is may hold terabytes.
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise unreadable(path)
            bad = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error):
        raise unreadable(path) from None  # a broken header may claim compression or a password
    except OSError as error:
        if error.errno != errno.EINVAL:  # a part before the beginning of the file
            raise
        raise unreadable(path) from None
    if bad is not None:
        raise UserError(f"{path} is damaged ({bad} has another CRC-32): fetch it again")


def unreadable(path: Path) -> UserError:
    return UserError(f"{path} is no whole file of torch.save: fetch it again")


def uvit_folder(path: Path) -> Contents:
    """A checkpoint of U-ViT's training: the averaged weights, and those as trained beside them."""
    made = parted(path / UVIT, unpickled(path / UVIT))
    raw = path / "nnet.pth"
    if raw.exists():
        made.raw = parted(raw, unpickled(raw)).tensors
        made.files.append(raw)
    return made


def diffusers_folder(path: Path) -> Contents:
    """The transformer of a pipeline's folder, or that folder itself.

    Raises:
        UserError: it has no config.json or no weights.
    """
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} has no config.json: name a file, or a folder of diffusers")
    config = read_json(folder / "config.json")
    files = weight_files(folder)
    if not files:
        raise UserError(f"{folder} has none of {', '.join(WEIGHTS)}: fetch the whole folder")
    made = Contents([*files, folder / "config.json"], {})
    for file in files:
        if file.suffix == ".safetensors":
            made.tensors |= tensors_of(file)
            read_origin(made, read_metadata(file))
        else:
            made.tensors |= parted(file, unpickled(file)).tensors
    return configured(made, folder / "config.json", config)


def configured(made: Contents, path: Path, config: Mapping[str, Any]) -> Contents:
    """Adds what config.json states and no tensor shows: heads, and the table of positions.

    Raises:
        UserError: it is not the configuration of a DiT.
    """
    other = {name: config.get(name) for name, usual in DIT.items() if config.get(name) != usual}
    numbers = [config.get(name) for name in SHAPE]
    if other or not all(isinstance(number, int) and number > 0 for number in numbers):
        raise UserError(f"{path} is not that of a DiT: it needs {DIT} and {', '.join(SHAPE)}")
    heads, width, size, patch = (int(number or 0) for number in numbers)
    if heads * width * (size // patch) ** 2 > MOST:
        raise UserError(f"{path}: positions of {size} / {patch} a side would fill the memory")
    made.heads = heads
    made.tensors.setdefault(POSITIONS, sincos_2d(heads * width, size // patch))
    return made


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights: one, the parts that an index lists, or one in half precision.

    Raises:
        UserError: the index lists none, or one that is not there.
    """
    for name in WEIGHTS:
        if (folder / name).exists():
            return [folder / name]
        if (index := folder / f"{name}.index.json").exists():
            return listed_files(index)
    return sorted(folder.glob("diffusion_pytorch_model.*.safetensors"))[:1]  # such as .fp16.


def listed_files(index: Path) -> list[Path]:
    """
    Raises:
        UserError: the index lists no file, or one that is not beside it.
    """
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise UserError(f"{index} has no weight_map: fetch the whole folder")
    files = [index.with_name(name) for name in sorted({Path(str(x)).name for x in listed.values()})]
    if lacking := [file.name for file in files if not file.exists()]:
        raise UserError(f"{index} lists {lacking[0]}, which is not there: fetch the whole folder")
    return files
