"""FORMATS: how the released checkpoints of each family name their tensors; a table of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.exchange.diffusers_names import released_names
from harness.exchange.measure import frequency_shift, percent
from harness.models.layers import sincos_2d
from harness.spec import Run

NESTED = "attn.rel_pos_bias.relative_position_bias_table"
Tensors = dict[str, Tensor]
OTHER = (
    "the released U-ViTs were trained on noise processes that no objective here has: under DDPM's"
    " their scores are not those that were published"
)
COSINE = (
    "ADM's network of 64 pixels was trained on the cosine schedule, which no objective here has;"
    " the others on DDPM's"
)
Convert = Callable[[str, Tensors, int], tuple[Tensors, list[str]]]


def as_they_are(source: str, tensors: Tensors, outputs: int) -> tuple[Tensors, list[str]]:
    return tensors, []


def nothing(run: Run, tensors: Tensors) -> list[str]:
    return []


@dataclass(frozen=True)
class Format:
    """One row.

    marks: beginnings of names that a checkpoint of it has, every one of them, behind one prefix or
    none; families: objectives whose
    checkpoints have these names, with what they are called; convert: its tensors and the outputs of
    the objective → tensors by the names of our network, and what was corrected (`source` is for
    messages); measure: what the import measures of the converted tensors; caution: what an import
    of its released checkpoints must not be taken for.
    """

    name: str
    marks: tuple[str, ...]
    families: Mapping[str, str] = field(default_factory=dict)
    convert: Convert = as_they_are
    measure: Callable[[Run, Tensors], list[str]] = nothing
    caution: str = ""


def released(source: str, tensors: Tensors, outputs: int) -> tuple[Tensors, list[str]]:
    """DiT's own names: rows that the objective never reads are dropped, positions compared."""
    notes, patches = list[str](), tensors["x_embedder.proj.weight"]
    last = {name: x for name, x in tensors.items() if name.startswith("final_layer.linear.")}
    channels, area = patches.shape[1:2].numel(), patches.shape[2:].numel()
    if outputs == 1 and all(len(x) == 2 * area * channels for x in last.values()):
        # SiT computes 2C channels and uses C (willisma/SiT, models.py); DiT's are the variance
        halves = {
            n: x.unflatten(0, (area, 2, channels))[:, 0].flatten(0, 1) for n, x in last.items()
        }
        tensors = tensors | halves
        notes.append(
            "half the rows of final_layer.linear are dropped: those that SiT computes and discards,"
            " and DiT's variance, which this objective has not"
        )
    if (given := tensors.get("pos_embed")) is not None and given.ndim == 3:
        side = round(given.shape[1] ** 0.5)
        usual = sincos_2d(given.shape[2], side)
        if usual.shape != given.shape or not usual.allclose(given.float(), atol=1e-5):
            notes.append("pos_embed is not the sine-cosine table: kept as it is in the file")
    return tensors, notes


def distances(side: int) -> Tensor:
    """The row of a bias table for each pair of tokens, [side², side²]: Swin's and BEiT's index."""
    row, column = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
    down, right = (axis[:, None] - axis + side - 1 for axis in (row, column))
    return down * (2 * side - 1) + right


def without_indices(source: str, tensors: Tensors, outputs: int) -> tuple[Tensors, list[str]]:
    """MDT's and DiffiT's names: the buffers that say which bias a pair of tokens has are dropped.

    Raises:
        UserError: one says something else than our networks compute.
    """
    kept = dict(tensors)
    for name in [name for name in tensors if name.endswith("relative_position_index")]:
        index = kept.pop(name)
        side = round(len(index) ** 0.5)
        if not torch.equal(index, distances(side).to(index.dtype)):
            raise UserError(f"{source}: {name} is not that of a window of {side} × {side} tokens")
    inner = "attn.relative_position_bias_table"  # DiffiT has the table in the attention itself
    return {name.replace(inner, NESTED): x for name, x in kept.items()}, []


def from_diffusers(source: str, tensors: Tensors, outputs: int) -> tuple[Tensors, list[str]]:
    found, copies = released_names(source, tensors)
    return found, [f"{copies} equal copies of the embedders stored once, positions added"]


def shifted(run: Run, tensors: Tensors) -> list[str]:
    apart = percent(frequency_shift(run, tensors))
    return [
        "frequencies of the timestep: the released 10,000^(-k/128), where diffusers has"
        f" 10,000^(-k/127), which moves {apart}; weights that diffusers itself trained are another"
        " function here"
    ]


# The first row whose marks are all there counts: a family with DiT's names and more comes before.
FORMATS = (
    Format("MDTv2", ("en_inblocks.0.",), {"ddpm": "MDTv2"}, without_indices),
    Format("MDT", ("sideblocks.0.",), {"ddpm": "MDT"}, without_indices),
    Format("DiffiT", ("blocks.0.attn.qkv_temb.weight",), {"ddpm": "DiffiT"}, without_indices),
    Format("Latte", ("temp_embed", "x_embedder.proj.weight")),
    # Released L: the continuous VP process at 999 t; H: Stable Diffusion's betas, steps from 1.
    Format("U-ViT", ("mid_block.attn.qkv.weight", "decoder_pred.weight"), caution=OTHER),
    Format("LDM", ("diffusion_model.",)),
    Format("ADM", ("input_blocks.0.0.weight", "out.2.weight"), {"ddpm": "ADM"}, caution=COSINE),
    Format(
        "DiT of diffusers",
        ("transformer_blocks.0.norm1.emb.timestep_embedder.", "proj_out_2.weight"),
        {"ddpm": "DiT"},
        from_diffusers,
        shifted,
    ),
    Format(
        "DiT",
        ("x_embedder.proj.weight", "blocks.0.attn.qkv.weight", "final_layer.linear.weight"),
        {"ddpm": "DiT", "flow": "SiT"},
        released,
    ),
)


OWN = Format("the model", ())  # of a network here, such as one of the user's rows


def recognised(source: str, names: Collection[str], model: str | None = None) -> tuple[Format, str]:
    """The format of tensors with these names, and what stands before all of them, such as "net.".

    Where there is none, it is the given model's own names.

    Raises:
        UserError: none, with the nearest, and no model is given; or the network is there twice.
    """
    for row in FORMATS:
        if before := set.intersection(*(prefixes(mark, names) for mark in row.marks)):
            if len(before) > 1:
                raise UserError(
                    f"{source} has {row.name}'s names under {', '.join(sorted(before))}: save one"
                    " of these networks alone"
                )
            return row, before.pop()
    if model is not None:
        return OWN, ""
    some = ", ".join(sorted(names)[:3]) or "none"
    near = max(FORMATS, key=lambda row: likeness(row, names))
    raise UserError(
        f"{source}: {len(names)} tensors, such as {some}, are of no family known here; the nearest"
        f" is {near.name}, which has {', '.join(near.marks)}; model= says whose own names they are"
    )


def prefixes(mark: str, names: Collection[str]) -> set[str]:
    """What stands before a mark: "net." or nothing."""
    found = {name.rpartition(mark)[0] for name in names if mark in name}
    return {prefix for prefix in found if not prefix or prefix.endswith(".")}


def likeness(row: Format, names: Collection[str]) -> float:
    """How much the most alike names have of each mark, from 0 to 1; numbers count for nothing."""
    kinds = {re.sub(r"\d+", "0", name) for name in names}
    alike = [
        max((SequenceMatcher(None, m, k).ratio() for k in kinds), default=0) for m in row.marks
    ]
    return sum(alike) / len(alike)
