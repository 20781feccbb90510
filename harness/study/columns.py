"""The columns of a study's tables: those of all sweeps, and what varies in this one. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from harness.spec import Run, Sweep
from harness.study.varying import varying

COLUMNS = [
    "study",
    "source",
    "run",
    "model",
    "size",
    "patch",
    "conditioning",
    "data",
    "seed",
    "batch_size",
    "lr",
    "params",
    "gflops",
    "step",
    "images",
    "protocol",
    "metric",
    "value",
    "n",
    "features",
    "sampler",
    "sampling_steps",
    "guidance",
    "guidance_channels",
    "decoder",
    "weights",
    "reference",
    "labels",
    "checkpoint",
    "warning",
    "commit",
    "device",
    "seconds",
    "schema",
]
LOG_COLUMNS = [
    "study",
    "run",
    "model",
    "size",
    "patch",
    "conditioning",
    "seed",
    "batch_size",
    "gflops",
    "step",
    "loss",
    "mse",
    "vb",
    "grad_norm",
    "images_per_second",
    "mfu",
    "seconds",
    "data",
    "lr",
    "precision",
]

OF_PROTOCOL = [
    "sampler",
    "sampling_steps",
    "guidance",
    "guidance_channels",
    "decoder",
    "weights",
    "labels",
    "features",
]

OPTIONAL = ("guidance_schedule",)  # columns of a sweep that has them
SAMPLING_SEED = "sampling_seed"  # a column of a sweep that samples under several


def log_columns(sweep: Sweep) -> list[str]:
    """The columns of <sweep>_log.csv."""
    return with_varied(LOG_COLUMNS, varying(sweep.runs))


def score_columns(sweep: Sweep) -> list[str]:
    """The columns of <sweep>.csv."""
    scheduled = [name for name in OPTIONAL if any(getattr(p, name) for p in sweep.sampling)]
    several = len({protocol.seed for protocol in sweep.sampling}) > 1
    own = [*own_columns(sweep.runs), *[SAMPLING_SEED] * several]
    return with_varied(COLUMNS, [*varying(sweep.runs), *scheduled, *own])


def own_columns(runs: Sequence[Run]) -> list[str]:
    """The columns of models that their names and Gflops alone would misreport."""
    unnamed = any(
        run.model_row.clips or not run.model.startswith(f"{run.model_row.family}-") for run in runs
    )
    several = any(run.model_row.passes(run.setting) != 1 for run in runs)
    counted = any(tokens_of(run) != usual_tokens(run) for run in runs)
    return ["family"] * unnamed + ["passes"] * several + ["tokens"] * counted


def tokens_of(run: Run) -> int | None:
    """The tokens of one sample; None of networks without patches."""
    return run.model_row.tokens(run.setting)


def usual_tokens(run: Run) -> float | None:
    """What analysis takes where a table has no tokens: those of the paper's latents."""
    side = run.model_row.patch_side
    return (32 / side) ** 2 if side else None


def with_varied(columns: Sequence[str], varied: Sequence[str]) -> list[str]:
    """The columns, and those without which runs of this sweep could not be told apart."""
    return [*columns, *(name for name in varied if name not in columns)]
