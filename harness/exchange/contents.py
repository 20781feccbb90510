"""What a checkpoint of another program holds: its tensors, and what it states of its training."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.objectives import OBJECTIVES
from harness.spec.ema import width_of, widths_of

OUTER = "module."  # what DistributedDataParallel puts in front
# What torch.compile, FSDP and activation checkpointing put in front, also of single blocks.
INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Under which key of a training checkpoint the weights lie that are scored, in order of preference.
PARTS = ("ema", "state_dict", "model")
STEPS = ("step", "steps", "train_steps", "global_step")
NO_EMA = "there is no EMA in it: the weights as trained stand in for it"


@dataclass
class Contents:
    """Weights by name in fp32, the averaged ones where a file has both, and what it states.

    fields: fields of a Run; step: the optimizer step; heads: of attention, which no tensor shows;
    notes: what was changed or left out; cautions: what a score of the weights is not.
    """

    files: list[Path]
    tensors: dict[str, Tensor]
    raw: dict[str, Tensor] | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    step: int | None = None
    heads: int | None = None
    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)

    def without(self, prefix: str) -> Contents:
        """The same without what stands before the names of the network."""
        if not prefix:
            return self
        tensors = {name.removeprefix(prefix): x for name, x in self.tensors.items()}
        raw = self.raw and {name.removeprefix(prefix): x for name, x in self.raw.items()}
        notes = [*self.notes, f"taken off the names: {prefix}"]
        return replace(self, tensors=tensors, raw=raw, notes=notes)


def read_origin(found: Contents, metadata: Mapping[str, str]) -> None:
    """Takes over the fields and the step that `harness export` wrote.

    Of a run that tracks several averages the file has one: the run that it becomes tracks that one.

    Raises:
        UserError: the header names no run.
    """
    if "run" not in metadata:
        return
    weights = metadata.get("weights", "ema")
    try:
        found.fields = {"objective": "ddpm", **json.loads(metadata["run"])}
        widths = widths_of(found.fields.get("ema"))
        width = width_of(weights) if weights.startswith("ema-") else (*widths, 0.0)[0]
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{found.files[0]}: its header names no run: export it again") from None
    found.step = number(metadata.get("step", ""))
    if weights == "raw":
        found.cautions.append(NO_EMA)
    elif width and widths != (width,):
        found.notes.append(f"of {found.fields['ema']} the file has power-{width} alone")
        found.fields["ema"] = f"power-{width}"
    if "rebuilt" in metadata:
        found.cautions.append(metadata["rebuilt"])


def number(text: str) -> int | None:
    """The step that a name or a header has; None of another text."""
    return int(text) if text.isdecimal() and len(text) < 20 else None


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
        made.cautions.append(NO_EMA)
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


def cleaned(path: Path, tensors: Mapping[str, Any], notes: list[str]) -> dict[str, Tensor]:
    """The tensors without wrappers' prefixes, in fp32 where they are floating point.

    Raises:
        UserError: something else stands among them, or numbers that are not finite.
    """
    if strange := [str(name) for name, x in tensors.items() if not is_plain(x)]:
        some = ", ".join(strange[:3])
        raise UserError(
            f"{path}: {some} are no dense tensors of real numbers: save a state dict, or it under"
            f" one of {', '.join(PARTS)}"
        )
    if not tensors:
        raise UserError(f"{path} holds no tensors: save a state dict")
    names = unwrapped(path, [str(name) for name in tensors], notes)
    found = dict(zip(names, tensors.values(), strict=True))
    kinds = sorted(
        {str(x.dtype).removeprefix("torch.") for x in found.values() if x.is_floating_point()}
    )
    if kinds not in ([], ["float32"]):
        notes.append(f"{', '.join(kinds)} stored as float32")
    found = {n: x.detach().float() if x.is_floating_point() else x for n, x in found.items()}
    if bad := [name for name, x in found.items() if not bool(x.isfinite().all())]:
        raise UserError(f"{path}: {bad[0]} holds numbers that are not finite: fetch it again")
    return found


def is_plain(x: Any) -> bool:
    """Whether it is a tensor whose numbers all lie in memory: a view may claim terabytes of one."""
    return (
        isinstance(x, Tensor)
        and x.layout is torch.strided
        and not (x.is_meta or x.is_quantized or x.is_complex())
        and x.untyped_storage().nbytes() >= x.numel() * x.element_size()
    )


def unwrapped(path: Path, names: Collection[str], notes: list[str]) -> list[str]:
    """The names without what wrappers put in front of them.

    Raises:
        UserError: two names become one.
    """
    parts = {part for name in names for part in name.split(".")}
    taken = [part for part in INNER if part in parts]
    found = [".".join(part for part in name.split(".") if part not in INNER) for name in names]
    while found and all(name.startswith(OUTER) for name in found):
        taken, found = ["module", *taken], [name.removeprefix(OUTER) for name in found]
    if taken:
        notes.append(f"taken off the names: {', '.join(f'{part}.' for part in taken)}")
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise UserError(f"{path} has {twice[0]} twice, under prefixes: save one of them")
    return found
