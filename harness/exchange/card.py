"""The model card of an exported folder: counts, protocol and scores from records, what differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from harness.data import DATASETS
from harness.exchange.measure import SAMPLING_STEPS, percent
from harness.exchange.outgoing import Checkpoint
from harness.models.decoders import PUBLISHED_DECODERS
from harness.study.compute import gflops, parameters


def card(
    given: Checkpoint,
    records: Iterable[Mapping[str, Any]],
    apart: Mapping[str, Any],
    vae: bool,
    source: Mapping[str, Any] | None,
) -> str:
    """README.md in Markdown.

    records: of these weights; apart: what pipeline.differences() measured; vae: whether the folder
    has one; source: import.json of imported weights.
    """
    run, records = given.run, list(records)
    data = DATASETS[run.data]
    template = (resources.files("harness.exchange") / "card.md.j2").read_text()
    made = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(template)
    return made.render(
        model=run.model,
        data=run.data,
        step=given.step,
        parameters=parameters(run),
        gflops=gflops(run),
        weights=given.weights,
        rebuilt=given.rebuilt,
        digest=given.digest,
        run=run.id,
        fields=run.canonical(),
        source=source,
        scores=list(rows(records)),
        warnings=sorted({line for record in records for line in record.get("warnings", [])}),
        decodes=data.latent,
        vae=vae,
        decoder=PUBLISHED_DECODERS["ft-ema"].repo,
        channels=data.channels,
        outputs=run.objective_row.outputs,
        size=data.size,
        classes=data.classes,
        unset=percent(apart["unset"]),
        forward=max(apart["forward"].values()),
        sampling=apart["sampling"],
        steps=SAMPLING_STEPS,
    )


def rows(records: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row a value of a record."""
    for record in records:
        reference = record["reference"]
        for metric, value in record["values"].items():
            yield {
                **record["protocol_fields"],
                "metric": metric,
                "extractor": record["extractor"]["name"],
                "value": value,
                "n": record["n"],
                "protocol": record["protocol"],
                "reference": f"{reference['name']}-{reference['digest'][:8]}",
            }
