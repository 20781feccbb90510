"""A folder that diffusers' DiTPipeline loads, and how far its output is from ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.base.errors import UserError
from harness.base.tensors import save_tensors
from harness.exchange.diffusers_names import diffusers_names
from harness.exchange.measure import forward_difference, loaded, sampling_difference
from harness.exchange.outgoing import Checkpoint
from harness.models.dit_rows import DiTModel
from harness.models.layers import sincos_2d
from harness.objectives.rows import DDPM_SAMPLERS, TIMESTEPS
from harness.spec import Run

HALF = 4e-3  # by which bfloat16 rounds positions; what it does to the output is measured
IMAGENET = 1000  # classes, and the null label that DiTPipeline hard-codes
# The paper's diffusion. Without timestep_spacing DPM-Solver++ takes its own, "linspace", which is
# ours; once DDIM's default "leading" stands here, from_config() would hand it over.
SCHEDULER = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "prediction_type": "epsilon",
}


def refuse_other_kinds(given: Checkpoint) -> None:
    """Refuses a checkpoint that diffusers' DiT cannot represent.

    Raises:
        UserError: diffusers' DiT has no such conditioning, objective or positions.
    """
    run = given.run
    model = run.model_row
    if type(model) is not DiTModel or run.variant:  # MDT's rows are DiT's and more
        raise UserError(f"{run.id}: diffusers has DiT alone: --to safetensors or --to pt writes it")
    if run.conditioning != "adaLN-Zero":
        raise UserError(
            f"{run.id}: diffusers' DiT has adaLN-Zero alone, not {run.conditioning}: --to"
            " safetensors writes it"
        )
    usual = sincos_2d(model.width, run.data_row.size // model.patch)
    if not given.tensors["pos_embed"].allclose(usual, atol=HALF):
        raise UserError(
            f"{run.id}: diffusers computes sine-cosine positions, these weights have others: --to"
            " safetensors or --to pt writes them"
        )
    if not set(DDPM_SAMPLERS) & set(run.objective_row.samplers):
        raise UserError(
            f"{run.id}: diffusers has no pipeline for objective {run.objective!r} (SiT's): --to"
            " safetensors or --to pt writes it"
        )


def config(run: Run) -> dict[str, Any]:
    """transformer/config.json; norm_eps there defaults to 1e-5, the released one is 1e-6."""
    model, data = run.model_row, run.data_row
    assert isinstance(model, DiTModel)  # refuse_other_kinds() has looked
    return {
        "_class_name": "DiTTransformer2DModel",
        "_diffusers_version": metadata.version("diffusers"),
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "attention_head_dim": model.width // model.heads,
        "in_channels": data.channels,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,
        "norm_type": "ada_norm_zero",
        "num_attention_heads": model.heads,
        "num_embeds_ada_norm": data.classes,
        "num_layers": model.depth,
        "out_channels": run.objective_row.outputs * data.channels,
        "patch_size": model.patch,
        "sample_size": data.size,
    }


def labels(classes: int) -> dict[str, str]:
    """id2label: ImageNet's names as torchvision has them; numbers for other data."""
    if classes != IMAGENET:
        return {str(i): str(i) for i in range(classes)}
    import harness.base.torchvision_ops  # noqa: F401, I001
    from torchvision.models import ResNet50_Weights

    return {
        str(i): name for i, name in enumerate(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
    }


def index(run: Run) -> dict[str, Any]:
    """model_index.json; save_pretrained would leave id2label out."""
    return {
        "_class_name": "DiTPipeline",
        "_diffusers_version": metadata.version("diffusers"),
        "id2label": labels(run.data_row.classes),
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def write(folder: Path, given: Checkpoint, vae: Any) -> None:
    """Fills a folder with the pipeline; `vae` is an AutoencoderKL, or None to leave it out."""
    run = given.run
    write_json(folder / "model_index.json", index(run))
    write_json(folder / "transformer" / "config.json", config(run))
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_tensors(weights, diffusers_names(given.tensors), given.metadata)
    solver = {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++"}
    write_json(folder / "scheduler" / "scheduler_config.json", solver | SCHEDULER)
    source = resources.files("harness.exchange") / "released_dit.py.txt"
    (folder / "pipeline.py").write_text(source.read_text())
    if vae is not None:
        vae.save_pretrained(folder / "vae")


def differences(folder: Path, given: Checkpoint) -> dict[str, Any]:
    """How far diffusers' output of the folder is from ours.

    forward: once the frequencies are set; unset: as DiTPipeline itself loads it; sampling: of one
    image's latents with DPM-Solver++.
    """
    import harness.base.torchvision_ops  # noqa: F401, I001
    from diffusers import DiTTransformer2DModel, DPMSolverMultistepScheduler

    net = loaded(given.run, given.tensors)
    theirs = DiTTransformer2DModel.from_pretrained(
        folder / "transformer", low_cpu_mem_usage=False, torch_dtype=torch.float32
    ).eval()

    def denoiser(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return theirs(x, timestep=t, class_labels=y).sample

    unset = forward_difference(net, denoiser, given.run)
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0
    forward = forward_difference(net, denoiser, given.run)
    scheduler = DPMSolverMultistepScheduler.from_pretrained(folder / "scheduler")
    sampling = sampling_difference(net, denoiser, scheduler, given.run)
    return {"forward": forward, "unset": unset, "sampling": sampling}
