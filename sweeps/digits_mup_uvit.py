"""Does the best learning rate of a narrow U-ViT suit a wide one? With muP and without.

The widths, learning rates and steps of digits_mup, by U-ViT: two blocks and one in the middle, with
a long skip. The base of muP is width 64. docs/mup.md has the result.
"""

from dataclasses import replace

from sweeps.digits_mup import SWEEP as OF_DIT

SWEEP = replace(
    OF_DIT,
    name="digits_mup_uvit",
    runs=tuple(
        replace(run, model=run.model.replace("DiT", "U-ViT"), conditioning=None)
        for run in OF_DIT.runs
    ),
)
