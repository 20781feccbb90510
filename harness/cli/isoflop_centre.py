"""The best size of a budget for `harness isoflop`: of a study, a number, or a published law."""

from __future__ import annotations

import argparse
import math
from typing import Any

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
    from analysis.joint import fit
    from analysis.optimum import gflops_at, known_tokens

    points = points_of_family(args, ladder.family)
    return gflops_at(fit(points), known_tokens(points, ladder.patch), DRAWS)


def points_of_family(args: argparse.Namespace, family: str) -> Any:
    from analysis.joint import points_of
    from analysis.table import TableError

    every = points_of(table(args.study, args.results), args.metric, args.protocol)
    known = {str(points.rows["family"].iloc[0]): points for points in every}
    if family not in known:
        raise TableError(f"{args.study} scores no {family}, only {', '.join(known)}")
    return known[family]
