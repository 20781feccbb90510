"""Does the best learning rate of a narrow U-ViT suit a wide one? With muP and without.

Three of the widths of digits_mup with its learning rates and steps, by U-ViT: two blocks and one in
the middle, with a long skip. The base of muP is width 64. docs/mup.md has the result.
"""

from dataclasses import replace

from harness.spec import Validation
from sweeps.digits_mup import SWEEP as OF_DIT

WIDTHS = (64, 128, 256)
MODELS = {f"digit-DiT-w{w}-d2-h16/4": f"digit-U-ViT-w{w}-d2-h16/4" for w in WIDTHS}

SWEEP = replace(
    OF_DIT,
    name="digits_mup_uvit",
    runs=tuple(
        replace(run, model=MODELS[run.model], conditioning=None)
        for run in OF_DIT.runs
        if run.model in MODELS
    ),
    protocols=(Validation(name="held-out", points=4096),),
)
