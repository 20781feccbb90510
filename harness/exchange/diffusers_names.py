"""DiT's tensors by diffusers' names and back: embedders copied into every block, q, k, v apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from harness.base.errors import UserError

# In one block; weight and bias alike.
OF_BLOCK = {
    "adaLN_modulation.1": "norm1.linear",
    "attn.proj": "attn1.to_out.0",
    "mlp.fc1": "ff.net.0.proj",
    "mlp.fc2": "ff.net.2",
}
QKV = ("attn1.to_q", "attn1.to_k", "attn1.to_v")
ENDS = {
    "x_embedder.proj": "pos_embed.proj",
    "final_layer.adaLN_modulation.1": "proj_out_1",
    "final_layer.linear": "proj_out_2",
}
# Diffusers keeps a copy of these in every block.
EMBEDDERS = {
    "t_embedder.mlp.0.weight": "timestep_embedder.linear_1.weight",
    "t_embedder.mlp.0.bias": "timestep_embedder.linear_1.bias",
    "t_embedder.mlp.2.weight": "timestep_embedder.linear_2.weight",
    "t_embedder.mlp.2.bias": "timestep_embedder.linear_2.bias",
    "y_embedder.embedding_table.weight": "class_embedder.embedding_table.weight",
}
KINDS = ("weight", "bias")
POSITIONS = "pos_embed.pos_embed"  # a buffer that diffusers computes; its converter stored it


def depth_of(names: Iterable[str], prefix: str) -> int:
    """Blocks: one more than the largest number after the prefix."""
    numbers = [
        name.removeprefix(prefix).partition(".")[0] for name in names if name.startswith(prefix)
    ]
    return 1 + max((int(number) for number in numbers if number.isdecimal()), default=-1)


def diffusers_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names → those of DiTTransformer2DModel, which computes the positions itself."""
    found = {
        f"{theirs}.{kind}": tensors[f"{ours}.{kind}"]
        for ours, theirs in ENDS.items()
        for kind in KINDS
    }
    for i in range(depth_of(tensors, "blocks.")):
        ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
        for name, copy in EMBEDDERS.items():
            found[f"{theirs}.norm1.emb.{copy}"] = tensors[
                name
            ].clone()  # files hold no shared memory
        for kind in KINDS:
            for name, other in OF_BLOCK.items():
                found[f"{theirs}.{other}.{kind}"] = tensors[f"{ours}.{name}.{kind}"]
            parts = tensors[f"{ours}.attn.qkv.{kind}"].chunk(3)
            found |= {
                f"{theirs}.{name}.{kind}": x.clone() for name, x in zip(QKV, parts, strict=True)
            }
    return found


def released_names(source: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """Names of diffusers → released names, and how many copies of the embedders there were.

    Raises:
        UserError: copies of one embedder differ, or tensors are absent or too many.
    """
    depth = depth_of(tensors, "transformer_blocks.")
    wanted = expected(depth)
    if POSITIONS not in tensors:
        raise UserError(
            f"{source}: the tensors do not show the size of the images: name their folder, where"
            " config.json has it"
        )
    given = tensors.keys() - {POSITIONS}
    if lacking := sorted(wanted - given):
        raise UserError(f"{source} lacks {some(lacking)} of DiTTransformer2DModel: fetch all of it")
    if strange := sorted(given - wanted):
        raise UserError(f"{source} is no DiTTransformer2DModel, which has no {some(strange)}")
    found = {
        f"{ours}.{kind}": tensors[f"{theirs}.{kind}"]
        for ours, theirs in ENDS.items()
        for kind in KINDS
    }
    for ours, copy in EMBEDDERS.items():
        names = [f"transformer_blocks.{i}.norm1.emb.{copy}" for i in range(depth)]
        found[ours] = tensors[names[0]]
        if others := [name for name in names if not torch.equal(tensors[name], found[ours])]:
            raise UserError(
                f"{source}: {others[0]} differs from {names[0]}; DiT has one embedder for all"
                " blocks: these were trained apart, and no network here has that"
            )
    found["pos_embed"] = tensors[POSITIONS]
    for i in range(depth):
        ours, theirs = f"blocks.{i}", f"transformer_blocks.{i}"
        for kind in KINDS:
            for name, other in OF_BLOCK.items():
                found[f"{ours}.{name}.{kind}"] = tensors[f"{theirs}.{other}.{kind}"]
            parts = [tensors[f"{theirs}.{name}.{kind}"] for name in QKV]
            if len({x.shape for x in parts}) > 1:
                raise UserError(f"{source}: {', '.join(QKV)} of {theirs} differ in shape")
            found[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
    return found, depth


def expected(depth: int) -> set[str]:
    """The names of all tensors of DiTTransformer2DModel."""
    names = {f"{name}.{kind}" for name in ENDS.values() for kind in KINDS}
    for i in range(depth):
        block = f"transformer_blocks.{i}"
        names |= {f"{block}.norm1.emb.{copy}" for copy in EMBEDDERS.values()}
        names |= {f"{block}.{name}.{kind}" for name in (*OF_BLOCK.values(), *QKV) for kind in KINDS}
    return names


def some(names: list[str]) -> str:
    rest = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + rest
