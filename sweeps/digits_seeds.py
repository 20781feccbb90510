"""How much of the digits study is luck? Its twelve models with three seeds each.

Nothing but the seed changes. Seed 0 is the digits study itself: its runs are not trained twice.
"""

from dataclasses import replace

from sweeps.digits import SWEEP as ONE

SWEEP = replace(
    ONE,
    name="digits_seeds",
    runs=tuple(replace(run, seed=seed) for seed in (0, 1, 2) for run in ONE.runs),
)
