"""`harness best`: the model and the steps that a budget of GPU-hours is best spent on."""

from __future__ import annotations

import argparse
import json
from typing import Any

from harness.base.errors import UserError
from harness.base.text import aligned, duration, in_units
from harness.cli.candidates import (
    free_sizes,
    of_the_law,
    require_hours,
    scale,
    siblings,
    speed_of,
    sweep_of,
)
from harness.cli.report import table, table_errors
from harness.cli.results import table_options
from harness.cli.verb import Verb, add_json, add_metric, add_on, add_sweep
from harness.spec import Run, Sweep
from harness.study import cost
from harness.study.speed import Speed, hours

SHOWN = 12
OCTAVES = 4  # of sizes that are tried below and above the sweep's


def options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--gpu-hours", type=float, required=True, metavar="H", help="of training and serving"
    )
    parser.add_argument(
        "--serve", type=float, default=0, metavar="N", help="images to sample afterwards"
    )
    add_metric(parser)
    add_on(parser)
    add_json(parser)
    table_options(parser)


def best(args: argparse.Namespace) -> int:
    found = best_json(args)
    print(json.dumps(found, indent=1, ensure_ascii=False) if args.json else text(found))
    return 0


BEST = Verb(
    "best",
    "What a budget of GPU-hours buys: model and steps, with the chance of being the best.",
    "digits_seeds --gpu-hours 2 --serve 1e5",
    options,
    best,
)


@table_errors()
def best_json(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the candidates, the best first, and the device.

    Raises:
        UserError: numbers out of range, no sweep, no speed, or no law that knows what images bring.
    """
    import pandas as pd

    from analysis import allocation

    require_hours(args.gpu_hours)
    if not args.serve >= 0:
        raise UserError(f"--serve {args.serve:g}: give a count of images")
    whole = sweep_of(args)
    if args.serve and not whole.sampling:
        raise UserError(f"--serve: {whole.name} has no protocol that says how images are sampled")
    speed, scores = speed_of(args, whole), table(args.sweep, args.results)
    sweep = of_the_law(whole, scores, args.metric, args.protocol)
    every = siblings(sweep, free_sizes(sweep, OCTAVES))
    candidates = pd.DataFrame([priced(run, sweep, speed, args.serve) for run in every])
    found = allocation.best(scores, candidates, args.gpu_hours, args.metric, args.protocol)
    return {
        "gpu_hours": args.gpu_hours,
        "serve": args.serve,
        "device": speed.device,
        "metric": args.metric,
        "diagnosis": found.attrs["diagnosis"],
        "posterior": allocation.posterior(found),
        "rows": found.to_dict("records"),
    }


def priced(run: Run, sweep: Sweep, speed: Speed, served: float) -> dict[str, Any]:
    """A model with the hours of an image's training, and of all images that are served."""
    base = {
        **scale(run),
        "batch_size": run.batch_size,
        "hours_per_image": hours(1, cost.training(run), speed),
    }
    if not served or not sweep.sampling:
        return {**base, "hours_to_serve": 0.0}
    protocol = sweep.sampling[0]
    forwards = served * protocol.sampling_steps * protocol.forwards
    decoded = 0.0
    if protocol.decoder != "identity":
        decoded = hours(served, cost.autoencoder("decoding", run.data), speed)
    return {
        **base,
        "hours_to_serve": hours(forwards, cost.sampling(run, protocol), speed) + decoded,
    }


def text(found: dict[str, Any]) -> str:
    head = ("model", "steps", "images", "serving", found["metric"], "95 % interval", "P(best)", "")
    lines = [
        (
            row["model"],
            f"{row['steps']:,.0f}",
            in_units(row["images"]),
            duration(row["hours_to_serve"]),
            f"{row['prediction']:.4g}",
            f"[{row['low']:.4g}, {row['high']:.4g}]",
            f"{row['p_best']:.0%}",
            f"beyond the fit: {row['beyond']}" if row["beyond"] else "",
        )
        for row in found["rows"][:SHOWN]
    ]
    more = len(found["rows"]) - SHOWN
    serving = f", {in_units(found['serve'])} images sampled afterwards" if found["serve"] else ""
    return "\n".join(
        [
            f"{found['gpu_hours']:g} h on one {found['device']}{serving}; the mean score that the"
            " joint law expects of each model trained for what is left:",
            aligned(head, lines),
            *([f"{more} more expect a higher {found['metric']}: --json has them."] * (more > 0)),
            best_text(found["posterior"]),
            *edge(found["rows"]),
            f"The law's form: {found['diagnosis']}.",
            "The intervals are the law's; scoring, queue and start-up are not in the hours.",
        ]
    )


def edge(rows: list[dict[str, Any]]) -> list[str]:
    """What to know where the best is at an end of the sizes that were tried."""
    sizes = [row["gflops"] for row in rows]
    ends = {"largest": max(sizes), "smallest": min(sizes)}
    return [
        f"{rows[0]['model']} is the {name} that was tried: the best may be beyond it."
        for name, size in ends.items()
        if rows[0]["gflops"] == size
    ]


def best_text(posterior: dict[str, Any]) -> str:
    """The chances over patch, and the ranges of size and steps."""
    (small, large), (few, many) = posterior["gflops"], posterior["steps"]
    patches = ", ".join(f"{patch} {p:.0%}" for patch, p in posterior["patch"].items())
    by_patch = f"; by patch {patches}" if len(posterior["patch"]) > 1 else ""
    return (
        f"With 95 % the best has {small:.3g} to {large:.3g} Gflops and {few:,.0f} to {many:,.0f}"
        f" steps{by_patch}."
    )
