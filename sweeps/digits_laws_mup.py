"""Does muP change how compute should be spent? The digits' runs of equal compute, with muP.

The widths, steps and seeds of digits_laws; the learning rate was found at a width of 32, which is
muP's base: there both studies have the same network, and the other widths follow it.
"""

from dataclasses import replace

from sweeps.digits_laws import SWEEP as STANDARD

SWEEP = replace(
    STANDARD,
    name="digits_laws_mup",
    runs=(),
    trained={replace(run, parametrization="mup"): STANDARD.steps_of(run) for run in STANDARD.runs},
)
