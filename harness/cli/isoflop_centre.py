"""The best size of a budget for `harness isoflop`: of a study, a number, or a published law."""

from __future__ import annotations

import argparse
import math

from harness.cli.report import table, table_errors
from harness.study.isoflop import Centre, Ladder

DRAWS = 1_000
LIANG = "liang2024"


def centre_of(args: argparse.Namespace, ladder: Ladder) -> tuple[Centre, str]:
    """The Gflops of a budget's best model, and what says so."""
    if args.study:
        return by_study(args, ladder), f"the joint law of {args.metric} in {args.study}"
    if args.centre:
        first = min(args.budgets)
        given = "--centre, growing as the root of the budget"
        return lambda budget: float(args.centre * math.sqrt(budget / first)), given
    from analysis.published_laws import of_compute

    tokens = (ladder.setting.size // ladder.patch) ** 2
    task = "the published law of Liang et al., of text to image: --study or --centre know better"
    return lambda budget: of_compute(LIANG, "optimal parameters", budget) * tokens / 1e9, task


@table_errors()
def by_study(args: argparse.Namespace, ladder: Ladder) -> Centre:
    """The optimum of a study's joint law.

    Raises:
        UserError: it has none of this family, or its scores do not tell what is best.
    """
    from analysis.forecast import points_like
    from analysis.joint import fit
    from analysis.optimum import gflops_at, known_tokens

    scores = table(args.study, args.results)
    points = points_like(scores, args.metric, args.protocol, ladder.family)
    return gflops_at(fit(points), known_tokens(points, ladder.patch), DRAWS)
