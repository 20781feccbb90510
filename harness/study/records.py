"""What a score's record must hold before its numbers go into a table. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.validation import Mistakes, problems, refuse
from harness.metrics import value_names
from harness.spec import AnyProtocol, Run
from harness.study.logs import is_finite
from harness.study.store import SCHEMA, Store

VALIDATED = "val_"  # begins the names of a validation's values: each term of its objective
REMEDY = "move it away, and harness run scores it again"


def finite_values(values: Mapping[str, Any]) -> str | None:
    """A check that every metric has a finite value."""
    if bad := [name for name, value in values.items() if not is_finite(value)]:
        return f"is not finite in {', '.join(bad)}"
    return None


def has_digest(reference: Mapping[str, Any]) -> str | None:
    """A check of the entry of the reference."""
    return None if isinstance(reference.get("digest"), str) else "has no digest"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a table takes from a record. More may stand in one: a field added later is optional."""

    run: str
    step: int
    protocol: str
    n: int
    values: Annotated[dict[str, Any], finite_values]
    reference: Annotated[dict[str, Any], has_digest]
    checkpoint: str
    warnings: list[str]
    commit: str
    device: str
    seconds: int | float
    protocol_fields: dict[str, Any] | None = None


def read_record(store: Store, run: Run, step: int, protocol: AnyProtocol) -> Record:
    """Reads a record, and checks it against the cell that it is of.

    Raises:
        UserError: it is damaged, of a newer schema, of another cell, or holds something else.
    """
    path = store.record(run, step, protocol)
    fields = read_json(path)
    schema = fields.get("schema", 0)
    if type(schema) is not int or schema > SCHEMA:
        raise UserError(
            f"{path} has schema {schema}, this harness reads up to {SCHEMA}: update the harness"
        )
    if (fields.get("run"), fields.get("step"), fields.get("protocol")) != (
        run.id,
        step,
        protocol.id,
    ):
        raise UserError(f"{path} is the record of another cell: {REMEDY}")
    record = as_record(path, fields)
    refuse(str(path), [f"{fault}: {REMEDY}" for fault in protocol_problems(record, protocol)])
    return with_known_metrics(record)


def with_known_metrics(record: Record) -> Record:
    """Leaves out values that no row of METRICS gives, with a warning: the file keeps them."""
    known = {*value_names()}
    unknown = [n for n in record.values if n not in known and not n.startswith(VALIDATED)]
    if not unknown:
        return record
    values = {name: value for name, value in record.values.items() if name not in unknown}
    lost = f"no metric gives {', '.join(sorted(unknown))}: left out, since its row is not loaded"
    return dataclasses.replace(record, values=values, warnings=[*record.warnings, lost])


def as_record(path: Path, fields: Mapping[str, Any]) -> Record:
    """The record of these fields, each of its own type.

    Raises:
        UserError: a field is absent or of another type.
    """
    names = [field.name for field in dataclasses.fields(Record)]
    required = set(names) - {"protocol_fields"}
    if absent := sorted(required - fields.keys()):
        raise UserError(f"{path} has no {', '.join(absent)}: {REMEDY}")
    record = Record(**{name: fields.get(name) for name in names})  # type: ignore[arg-type]
    if found := problems(record):
        raise Mistakes(f"{path}", [f"{problem}: {REMEDY}" for problem in found])
    return record


def protocol_problems(record: Record, protocol: AnyProtocol) -> list[str]:
    """Where a record differs from the protocol whose name it has."""
    found = []
    if record.n != protocol.n:
        found.append(f"n = {record.n} is not the {protocol.n} of {protocol.id}")
    if record.protocol_fields not in (None, protocol.canonical()):
        found.append(f"protocol_fields are not those of {protocol.id}")
    return found
