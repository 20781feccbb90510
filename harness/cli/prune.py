"""`harness prune`: frees what a store no longer needs, after asking. No torch."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.base.text import in_units
from harness.cli.verb import Verb, add_sweep, cluster_from, confirmed
from harness.launch.jobs import query_jobs
from harness.launch.prune import KEPT, STATES, Item, prunable, prune
from harness.study.store import Store
from harness.study.sweep_file import load_sweep

MORE = {
    STATES: ("--states", "the optimizer states of finished runs"),
    KEPT: ("--samples", "kept features and latents, from which new metrics are computed"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_sweep(parser)
    parser.add_argument(
        "--states",
        action="store_true",
        help="also the states of finished runs: a longer sweep then trains them again",
    )
    parser.add_argument(
        "--samples",
        action="store_true",
        help="also kept features and latents: a metric added later then samples again",
    )
    parser.add_argument("--yes", action="store_true", help="does not ask")


def run(args: argparse.Namespace) -> int:
    sweep, cluster = load_sweep(args.sweep), cluster_from(args)
    store = Store(Path(cluster.store))
    options = {STATES: args.states, KEPT: args.samples}
    also = [kind for kind, asked in options.items() if asked]
    found = prunable(sweep, store, query_jobs(store, cluster.executor), [*options])
    items = [item for item in found if item.kind in also or item.kind not in options]
    print(prune_text(items, store))
    for kind, (option, what) in MORE.items():
        if kind not in also and (kept := sum(item.bytes for item in found if item.kind == kind)):
            print(f"{option} would free {in_units(kept)}B more: {what}")
    if items and (args.yes or confirmed("remove them?")):
        gone = prune(sweep, store, cluster.executor, also)
        print(f"{in_units(sum(item.bytes for item in gone))}B freed")
    return 0


def prune_text(items: Sequence[Item], store: Store) -> str:
    if not items:
        return f"{store.root.resolve()}: nothing to remove"
    counts, sizes = Counter[str](), Counter[str]()
    for item in items:
        counts[item.kind] += 1
        sizes[item.kind] += item.bytes
    lines = [f"{in_units(sizes[kind]):>8}B  {count} {kind}" for kind, count in counts.items()]
    return "\n".join([*lines, f"in {store.root.resolve()}"])


PRUNE = Verb(
    "prune",
    "Deletes what nothing needs: old launches, code copies, leftovers, states; asks first.",
    "digits --yes",
    add_options,
    run,
)
