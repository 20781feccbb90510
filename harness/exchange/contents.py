"""What a checkpoint of another program holds: its tensors and what it states; never unpickled."""

from __future__ import annotations

import argparse
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.tensors import load_tensors, read_metadata
from harness.exchange.diffusers_names import POSITIONS
from harness.models.layers import sincos_2d
from harness.objectives import OBJECTIVES

WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put in front
# Under which key of a training checkpoint the weights lie that are scored, in order of preference.
PARTS = ("ema", "state_dict", "model")
STEPS = ("step", "steps", "train_steps", "global_step")
NO_EMA = "there is no EMA in it: the weights as trained stand in for it"
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
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # diffusers' names


@dataclass
class Contents:
    """Weights by name in fp32, the averaged ones where a file has both, and what it states.

    fields: fields of a Run; step: the optimizer step; heads: of attention, which no tensor shows;
    notes: what was changed or left out.
    """

    files: list[Path]
    tensors: dict[str, Tensor]
    raw: dict[str, Tensor] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    step: int | None = None
    heads: int | None = None
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Contents:
    """Reads a safetensors file, a file of torch.save, or a folder of diffusers.

    Raises:
        UserError: there is none, it is damaged, or it holds what only a full unpickling would load.
    """
    if path.is_dir():
        found = diffusers_folder(path)
    elif not path.exists():
        raise UserError(f"there is nothing at {path}: name a checkpoint or a folder of diffusers")
    elif path.suffix == ".safetensors":
        found = Contents([path], load_tensors(path))
    else:
        found = parted(path, unpickled(path))
    if path.suffix == ".safetensors":
        read_origin(found, read_metadata(path))
    if found.step is None:
        found.step = number(path.stem)  # train.py's 0400000.pt
    found.tensors = cleaned(path, found.tensors, found.notes)
    found.raw = None if found.raw is None else cleaned(path, found.raw, [])
    return found


def read_origin(found: Contents, metadata: Mapping[str, str]) -> None:
    """Takes over the fields and the step that `harness export` wrote."""
    if "run" not in metadata:
        return
    try:
        found.fields = {"objective": "ddpm", **json.loads(metadata["run"])}
    except (ValueError, TypeError):
        raise UserError(f"{found.files[0]}: its header names no run: export it again") from None
    found.step = number(metadata.get("step", ""))
    if metadata.get("weights") == "raw":
        found.notes.append(NO_EMA)


def number(text: str) -> int | None:
    """The step that a name or a header has; None of another text."""
    return int(text) if text.isdecimal() and len(text) < 20 else None


def unpickled(path: Path) -> Any:
    """What torch.save wrote: tensors, plain values and argparse's Namespace, and no other class.

    Raises:
        UserError: it holds another class, is damaged, or was not written by torch.save.
    """
    zipped = zipfile.is_zipfile(path)
    if zipped or path.open("rb").read(2) == b"PK":  # torch passes over the checksums, and trips
        check_archive(path)  # over an archive that was cut
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, "cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+) was not an allowed|class (\S+?)[,.]? ", str(error)):
            kind = named[1] or named[2]
            raise UserError(
                f"{path} holds {kind} beside tensors and an argparse.Namespace: it is not"
                " unpickled, as that may run any code; save its state dict alone"
            ) from None
        raise unreadable(path) from None
    except TRIPS:
        raise unreadable(path) from None


def check_archive(path: Path) -> None:
    """Checks the CRC-32 of every part of a torch.save archive.

    Raises:
        UserError: the archive is cut, or a part of it has another checksum than was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error):
        raise unreadable(path) from None  # a broken header may claim compression or a password
    if bad is not None:
        raise UserError(f"{path} is damaged ({bad} has another CRC-32): fetch it again")


def unreadable(path: Path) -> UserError:
    return UserError(f"{path} is no whole file of torch.save: fetch it again")


def parted(path: Path, found: Any) -> Contents:
    """The parts of a training checkpoint, or a state dict itself.

    Raises:
        UserError: it is neither.
    """
    if not isinstance(found, Mapping):
        raise UserError(
            f"{path} holds a {type(found).__name__}: save a state dict, or train.py's four parts"
        )
    part = next((key for key in PARTS if isinstance(found.get(key), Mapping)), None)
    if part is None:
        return Contents([path], dict(found))
    made = Contents([path], dict(found[part]))
    if part == "ema" and isinstance(found.get("model"), Mapping):
        made.raw = dict(found["model"])
    if part == "model":
        made.notes.append(NO_EMA)
    if rest := [key for key in found if key not in PARTS and key != "args"]:
        made.notes.append(f"left out: {', '.join(map(str, rest))}")
    made.fields = training_fields(found)
    made.step = next((found[key] for key in STEPS if type(found.get(key)) is int), None)
    return made


def training_fields(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Run that train.py's arguments and its optimizer state."""
    given = found.get("args")
    args = vars(given) if isinstance(given, argparse.Namespace) else {}
    family, _, size = str(args.get("model", "")).partition("-")
    stated = {
        "model": f"DiT-{size}" if family in ("DiT", "SiT") else None,
        "batch_size": args.get("global_batch_size"),
        "seed": args.get("global_seed"),
        "objective": {"DiT": "ddpm", "SiT": flow_of(args)}.get(family),
    }
    optimizer = found.get("opt")
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if isinstance(groups, list) and groups and isinstance(groups[0], Mapping):
        stated |= {name: groups[0].get(name) for name in ("lr", "weight_decay")}
    return {name: value for name, value in stated.items() if value is not None}


def flow_of(args: Mapping[str, Any]) -> str | None:
    """The objective of SiT's arguments; None for one that is not in OBJECTIVES."""
    wanted = {
        "path": str(args.get("path_type", "Linear")).lower(),
        "prediction": args.get("prediction", "velocity"),
        "weighted": args.get("loss_weight") is not None,
        "logit_normal": False,
    }
    if wanted["prediction"] == "velocity":  # SiT weights noise and score alone
        wanted["weighted"] = False
    plain = {"path": "linear", "prediction": "velocity", "weighted": False, "logit_normal": False}
    flows = {
        name: plain | dict(row.settings) for name, row in OBJECTIVES.items() if row.outputs == 1
    }
    fits = [name for name, settings in flows.items() if settings == wanted]
    return next((name for name in fits if name.startswith("flow")), None)


def diffusers_folder(path: Path) -> Contents:
    """The transformer of a pipeline's folder, or that folder itself.

    Raises:
        UserError: it has no config.json or no weights.
    """
    folder = path / "transformer" if (path / "transformer").is_dir() else path
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} has no config.json: name a file, or a folder of diffusers")
    config = read_json(folder / "config.json")
    files = list(weight_files(folder))
    if not files:
        raise UserError(f"{folder} has none of {', '.join(WEIGHTS)}: fetch the whole folder")
    made = Contents([*files, folder / "config.json"], {})
    for file in files:
        if file.suffix == ".safetensors":
            made.tensors |= load_tensors(file)
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


def weight_files(folder: Path) -> Iterator[Path]:
    """The files of a model's weights: one, or the parts that an index lists."""
    for name in WEIGHTS:
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            yield folder / name
            return
        if index.exists():
            listed = read_json(index).get("weight_map")
            if not isinstance(listed, dict):
                raise UserError(f"{index} has no weight_map: fetch the whole folder")
            yield from (
                folder / part for part in sorted({Path(str(x)).name for x in listed.values()})
            )
            return


def cleaned(path: Path, tensors: Mapping[str, Any], notes: list[str]) -> dict[str, Tensor]:
    """The tensors without wrappers' prefixes, in fp32 where they are floating point.

    Raises:
        UserError: something else stands among them, or numbers that are not finite.
    """
    if strange := [str(name) for name, x in tensors.items() if not isinstance(x, Tensor)]:
        some = ", ".join(strange[:3])
        raise UserError(
            f"{path}: {some} are no tensors: save a state dict, or it under one of"
            f" {', '.join(PARTS)}"
        )
    found = {str(name): x for name, x in tensors.items()}
    while prefix := next(
        (w for w in WRAPPERS if found and all(n.startswith(w) for n in found)), ""
    ):
        found = {name.removeprefix(prefix): x for name, x in found.items()}
        notes.append(f"prefix {prefix!r} taken off all names")
    kinds = sorted(
        {str(x.dtype).removeprefix("torch.") for x in found.values() if x.is_floating_point()}
    )
    if kinds not in ([], ["float32"]):
        notes.append(f"{', '.join(kinds)} stored as float32")
    found = {name: x.float() if x.is_floating_point() else x for name, x in found.items()}
    if bad := [name for name, x in found.items() if not bool(x.isfinite().all())]:
        raise UserError(f"{path}: {bad[0]} holds numbers that are not finite: fetch it again")
    return found
