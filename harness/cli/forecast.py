"""`harness forecast`: a prediction in a file before the run is there; `report` scores it once."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.base.commit import commit
from harness.base.errors import UserError
from harness.base.files import read_json, write_json
from harness.cli.candidates import scale
from harness.cli.predict import model_options, scale_of
from harness.cli.report import find, table, table_errors
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_metric, add_sweep, cluster_from
from harness.models import MODELS
from harness.study.store import Store

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "forecasts"


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    model_options(parser)
    parser.add_argument(
        "--step", type=int, help="training step (default: the last of the study); by the joint law"
    )
    add_metric(parser)
    add_json(parser)
    table_options(parser)


def forecast(args: argparse.Namespace) -> int:
    path, found = write(args)
    print(json.dumps(found, indent=1, ensure_ascii=False) if args.json else text(path, found))
    return 0


FORECAST = Verb(
    "forecast",
    "Writes the score that a run not yet scored should get; report says hit or miss, once.",
    "digits --model digit-DiT-XXL/2 --gflops 0.2 --params 1.2e7 --patch 2",
    options,
    forecast,
)


@table_errors()
def write(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Writes the forecast. Returns (its path, the forecast).

    Raises:
        UserError: it is there already, the score is known, or the table allows no prediction.
    """
    from analysis import forecast as forecasts

    scores, given = table(args.sweep, args.results), scale_of(args) or known_scale(args)
    if args.step is not None and args.step < 1:
        raise UserError(f"--step {args.step}: give a step above 0")
    found = forecasts.forecast(
        scores, args.model or "the model", args.metric, args.protocol, given, args.step
    )
    refuse_scored(args, found)
    path = new_path(args.results, found)
    made = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    found = forecasts.sealed({**found, "made": made, "commit": commit()})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)
    return path, found


def refuse_scored(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """
    Raises:
        UserError: the store has the score already, and the table does not.
    """
    sweep, store = find(args.sweep, args.results).sweep, Store(Path(cluster_from(args).store))
    runs = [run for run in sweep.runs if run.model == found["model"]] if sweep else []
    protocols = [p for p in sweep.protocols if p.id == found["protocol"]] if sweep else []
    for run, protocol in itertools.product(runs, protocols):
        if store.record(run, found["step"], protocol).exists():
            raise UserError(
                f"{run.id} is scored at step {found['step']:,} in {store.root}: a forecast is"
                " written before; harness collect puts the score into the table"
            )


def new_path(results: Path, found: dict[str, Any]) -> Path:
    """The file of a forecast; of a second protocol it has that in its name.

    Raises:
        UserError: this score was forecast already.
    """
    words = [found["study"], found["model"], str(found["step"]), found["metric"]]
    for name in ("_".join(words), "_".join([*words, found["protocol"]])):
        safe = "".join(c if c.isalnum() or c in "._-" else "-" for c in name)
        path = results / FOLDER / f"{safe}.json"
        if not path.exists():
            return path
        if read_json(path).get("protocol") == found["protocol"]:
            break
    raise UserError(
        f"{path} is there: a forecast is made once; move it away to withdraw it, or give"
        " another --model or --step"
    )


def known_scale(args: argparse.Namespace) -> dict[str, float] | None:
    """The scale of a model that fits the study's sweep, which the table need not have yet."""
    sweep = find(args.sweep, args.results).sweep
    if sweep is None or args.model not in MODELS:
        return None
    try:
        known = scale(dataclasses.replace(sweep.runs[0], model=args.model))
    except UserError:  # a network of other data
        return None
    names = ("gflops", "params", "patch")
    return {name: float(known[name]) for name in names if known[name] == known[name]}


def text(path: Path, found: dict[str, Any]) -> str:
    beyond = found.get("beyond") or []
    lines = [
        f"{found['metric']} of {found['model']} at step {found['step']:,}, protocol"
        f" {found['protocol']}: {found['prediction']:.4g}"
        f" [{found['low']:.4g}, {found['high']:.4g}] at 95 %",
        f"by the law in {found['law']}, from {found['models']} models: {found['formula']}",
        *([f"beyond what was fitted: {'; '.join(beyond)}"] if beyond else []),
        f"written to {path}, digest {found['digest']}: harness report says hit or miss when the"
        " score is there; commit it now to show when it was made",
    ]
    return "\n".join(lines)


def read(results: Path, study: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields the forecasts of a study with their files, by name."""
    for path in sorted((results / FOLDER).glob("*.json")):
        found = read_json(path)
        if isinstance(found, dict) and found.get("study") == study:
            yield path, found


def score(
    results: Path, study: str, scores: pd.DataFrame, store: Store | None = None
) -> list[dict[str, Any]]:
    """Scores the forecasts whose run is there now, and returns all of the study.

    One that has its outcome keeps it, whatever the table says later. A score that the store
    measured before the forecast was made does not count.
    """
    from analysis import forecast as forecasts

    older = partial(is_older, store) if store else forecasts.never
    every = []
    for path, found in read(results, study):
        if forecasts.is_intact(found) and not found["outcome"]:
            outcome = forecasts.outcome(found, scores, older)
            if outcome:
                found = {**found, "outcome": outcome}
                write_json(path, found)
        every.append(found)
    return every


def is_older(store: Store, found: dict[str, Any], rows: pd.DataFrame) -> bool:
    """Whether a record of these scores has a date before the forecast; without records, no."""
    made = found.get("made", "")
    for run, step, protocol in rows[["run", "step", "protocol"]].itertuples(index=False):
        path = store.root / "runs" / run / "evals" / protocol / f"{int(step):07d}.json"
        with contextlib.suppress(UserError, OSError):  # of a table alone, or damaged
            if read_json(path).get("date", made) < made:
                return True
    return False
