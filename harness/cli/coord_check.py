"""`harness coord-check`: whether activations keep their size over the width, under muP."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.spelling import suggestion
from harness.base.text import aligned
from harness.base.validation import refuse
from harness.cli.verb import (
    RESULTS,
    Verb,
    add_cluster,
    add_device,
    add_json,
    add_rows,
    cluster_from,
    use_own_rows,
)
from harness.models import MODELS
from harness.spec import Run
from harness.study.choice import WORD, parsed
from harness.study.cluster import Cluster

if TYPE_CHECKING:
    import pandas as pd

    from harness.training.coordinates import Check

# A learning rate as large as the digits' studies have: the check wants large steps.
FIELDS = {"data": "digits8", "batch_size": 16, "lr": 3e-3, "precision": "fp32"}
KINDS = ("mup", "standard")
OWN = ("model", "parametrization", "seed")  # fields that no word changes


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", default="digit-DiT-L/2", help="default: digit-DiT-L/2"
    )
    parser.add_argument(
        "fields",
        metavar="FIELD=VALUE",
        nargs="*",
        default=[],
        help=f"fields of the run (default: {' '.join(f'{k}={v}' for k, v in FIELDS.items())})",
    )
    parser.add_argument(
        "--heads", type=int, nargs="+", help="the widths, as heads (default: 4 6 8 10 12 16 20)"
    )
    parser.add_argument("--steps", type=int, default=4, help="updates (default: 4)")
    parser.add_argument("--seeds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--bound", type=float, help="the largest flat slope (default: 0.25)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "coord_check", help="stem of the files it writes"
    )
    add_rows(parser)
    add_cluster(parser)
    add_device(parser)
    add_json(parser)


def coord_check(args: argparse.Namespace) -> int:
    import pandas as pd

    from analysis import coordinates, files, style

    use_own_rows(args)
    table = pd.DataFrame(measured(asked(args), cluster_from(args)))
    found = coordinates.slopes(table)
    bound = coordinates.BOUND if args.bound is None else args.bound
    grown = coordinates.growing(found, bound=bound)
    with style.theme():
        written = files.save(coordinates.figure(table), args.out)
    written.append(args.out.with_name(f"{args.out.name}_modules.csv"))
    table.to_csv(written[-1], index=False, float_format="%.6g")
    if args.json:
        print(json.dumps({"bound": bound, "growing": grown, "slopes": rows_of(found)}, indent=1))
    else:
        print(text(found, bound, grown, written))
    return 1 if grown else 0


COORD_CHECK = Verb(
    "coord-check",
    "Whether activations keep their size over the width under muP: slopes, a table, a figure."
    " Exit status 1 where one grows.",
    "digit-DiT-L/2 lr=1e-2 conditioning=adaLN --heads 4 8 16 --seeds 1",
    options,
    coord_check,
)


def asked(args: argparse.Namespace) -> Check:
    """The coordinate check that the command line asks for.

    Raises:
        UserError: numbers out of range, an unknown model, or words that are no fields of a run.
    """
    from harness.training.coordinates import HEADS, Check

    heads = sorted(set(args.heads or HEADS))
    few = {name: getattr(args, name) for name in ("steps", "seeds") if getattr(args, name) < 1}
    wrong = [f"--{name} {value}: must be at least 1" for name, value in few.items()]
    if heads[0] < 1 or len(heads) < 2:
        wrong.append(f"--heads {' '.join(map(str, heads))}: name two or more, from 1")
    if args.model not in MODELS:
        wrong.append(f"model {args.model!r} is unknown: {suggestion(args.model, MODELS)}")
    refuse("coord-check", wrong)
    fields = {**FIELDS, **fields_of(args.fields), "model": args.model}
    return Check(fields, heads, args.steps, args.seeds)


def fields_of(words: list[str]) -> dict[str, Any]:
    """The fields of the run that FIELD=VALUE words name.

    Raises:
        UserError: a word is no FIELD=VALUE of a run, or is of a field that the check varies.
    """
    strange = [word for word in words if not WORD.fullmatch(word)]
    refuse("coord-check", [f"{word!r} is no FIELD=VALUE" for word in strange])
    values = dict(word.split("=", 1) for word in words)
    chosen = [f"{name}: the check chooses it" for name in OWN if name in values]
    refuse("coord-check", chosen)
    given = parsed({name: [value] for name, value in values.items()})
    return {name: value for name, (value,) in given[Run].items()}


def measured(check: Check, cluster: Cluster) -> list[dict[str, Any]]:
    from tqdm import tqdm

    from harness.base.distributed import process_group
    from harness.training.coordinates import coordinates

    with (
        process_group(cluster.device) as rank,
        tqdm(total=check.networks, file=sys.stderr, delay=1, unit="network", leave=False) as bar,
    ):
        return coordinates(check, cluster, rank, bar.update)


def rows_of(found: pd.DataFrame) -> list[dict[str, object]]:
    """The slopes for JSON: None where there is none."""
    return [
        {"module": module, **{str(k): None if x != x else round(x, 4) for k, x in row.items()}}
        for module, row in zip(found.index, found.to_dict("records"), strict=True)
    ]


def text(found: pd.DataFrame, bound: float, grown: list[str], written: list[Path]) -> str:
    lines = [
        (str(row["module"]), *("" if row[k] is None else f"{row[k]:+.2f}" for k in KINDS))
        for row in rows_of(found)
    ]
    verdict = (
        f"under muP {', '.join(grown)} grow with the width, by a slope above {bound:g}"
        if grown
        else f"under muP nothing grows with the width: no slope is above {bound:g}"
    )
    return "\n".join(
        [
            "Slope of log mean |activation| over log width, the steepest of all steps:",
            aligned(("module", *KINDS), lines),
            verdict,
            ", ".join(map(str, written)),
        ]
    )
