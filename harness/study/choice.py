"""A sweep with other fields, or a part of it: `lr=1e-3 seed=0,1 models=DiT-S/2`. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.base.spelling import remedy, suggestion
from harness.base.validation import LONGEST_NAME, Mistakes, refuse, rules
from harness.spec import AnyProtocol, Protocol, Run, Sweep

WORD = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)=(.*)")
PROTOCOL = "protocol."  # before a field that runs have too: protocol.seed
Axes = Mapping[str, tuple[Any, ...]]


def targets() -> dict[str, tuple[Any, str]]:
    """What a word may name: whose field, and which."""
    runs, of_protocol = rules(Run), rules(Protocol)
    protocols = [f for f, rule in of_protocol.items() if f != "name" and tuple not in rule.types]
    found: dict[str, tuple[Any, str]] = {field: (Run, field) for field in runs}
    found["steps"] = Sweep, "steps"
    return found | {PROTOCOL * (f in runs) + f: (Protocol, f) for f in protocols}


def chosen(sweep: Sweep, words: Sequence[str]) -> Sweep:
    """The sweep that these words make of it, under a name of its own; itself without words.

    `lr=1e-3,3e-3` gives every run each of these values, `steps=10,20` replaces all steps,
    `guidance=1.5` is of the protocols, and so is `protocol.seed=1`, as runs have a seed too.
    `models=` and `runs=` then keep runs: by model, or by id or its beginning.

    Raises:
        UserError: a field is not known, a value is none of it, or nothing is left.
    """
    if not words:
        return sweep
    given: dict[str, list[str]] = {}
    for word in words:
        name, _, values = word.partition("=")
        given.setdefault(name, []).extend(values.split(","))
    kept = [given.pop(key, []) for key in ("models", "runs")]
    axes = parsed(given)
    runs: dict[Run, set[int]] = {}
    for run in sweep.runs:
        for again in variants(run, axes[Run]):
            runs.setdefault(again, set()).update(sweep.steps_of(run))
    kept_runs = selected(tuple(runs), *kept)
    protocols = {
        again: sweep.steps_of(p)
        for p in sweep.protocols
        for again in variants(p, axes_of(p, axes[Protocol]))
    }
    steps = axes[Sweep].get("steps")
    return dataclasses.replace(
        sweep,
        name=derived_name(sweep.name, axes, kept),
        runs=kept_runs,
        trained={} if steps else {run: tuple(sorted(runs[run])) for run in kept_runs},
        protocols=tuple(protocols) if steps else protocols,
        steps=steps or sweep.steps,
    )


def parsed(given: Mapping[str, Sequence[str]]) -> dict[type, dict[str, tuple[Any, ...]]]:
    """The values by field, of runs, protocols and the sweep.

    Raises:
        Mistakes: a field is not known, or a value cannot be one of its.
    """
    known, found = targets(), list[str]()
    axes: dict[type, dict[str, tuple[Any, ...]]] = {Run: {}, Protocol: {}, Sweep: {}}
    for name, texts in given.items():
        if name not in known:
            found.append(f"{name} is unknown: {suggestion(name, known)}")
            continue
        cls, field = known[name]
        kinds = (int,) if cls is Sweep else rules(cls)[field].types
        values = [value_of(text, kinds) for text in texts]
        found += [
            f"{name}={text}: must be {kinds[0].__name__}{remedy(text, kinds)}"
            for text, value in zip(texts, values, strict=True)
            if value is None
        ]
        axes[cls][field] = tuple(dict.fromkeys(values))
    refuse("FIELD=VALUE after the sweep", found)
    return axes


def value_of(text: str, kinds: Iterable[type]) -> Any:
    """The text as a value of one of these types; None if it is none."""
    for kind in kinds:
        if kind in (int, float, str):
            try:
                return kind(text)
            except ValueError:
                continue
    return None


def axes_of(protocol: AnyProtocol, axes: Axes) -> Axes:
    """Those that the protocol has: a validation has no guidance."""
    return {name: values for name, values in axes.items() if hasattr(protocol, name)}


def variants(part: Any, axes: Axes) -> list[Any]:
    """The part once for each combination of the values.

    Raises:
        Mistakes: of all of them.
    """
    made, found = [], dict[str, None]()
    for values in itertools.product(*axes.values()):
        try:
            made.append(dataclasses.replace(part, **dict(zip(axes, values, strict=True))))
        except Mistakes as error:
            found |= dict.fromkeys(error.problems)
    refuse("FIELD=VALUE after the sweep", list(found))
    return made


def selected(runs: Sequence[Run], models: Sequence[str], ids: Sequence[str]) -> tuple[Run, ...]:
    """The runs of these models, or with ids that begin so; all where nothing is named.

    Raises:
        Mistakes: with each name that fits no run.
    """
    fits = {name: [run for run in runs if run.model == name] for name in (*models, *ids)}
    for name in ids:
        fits[name] += [run for run in runs if name and run.id.startswith(name)]
    known = dict.fromkeys(run.model for run in runs)
    strange = [name for name, found in fits.items() if not found]
    or_id = ", or a run's id as harness plan prints it" * bool(ids)
    faults = [
        f"{name!r} is none of the sweep's: {suggestion(name, known)}{or_id}" for name in strange
    ]
    refuse("runs", faults)
    wanted = {run.id for found in fits.values() for run in found}
    return tuple(run for run in runs if run.id in wanted or not fits)


def derived_name(name: str, axes: Mapping[type, Axes], kept: Iterable[Sequence[str]]) -> str:
    """digits-lr-0.001-seed-0-1: the same for the same words in any order."""
    own = {
        PROTOCOL * (cls is Protocol and field in rules(Run)) + field: values
        for cls, fields in axes.items()
        for field, values in fields.items()
    }
    words = [f"{field} {' '.join(map(str, own[field]))}" for field in sorted(own)]
    words += [" ".join(sorted(names)) for names in kept if names]
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", " ".join([name, *words])).strip("-")
    if len(slug) <= LONGEST_NAME:
        return slug
    return f"{name[:60]}-{hashlib.sha256(slug.encode()).hexdigest()[:8]}"
