"""The fields in which the runs of a sweep differ, or its protocols. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from harness.spec import AnyProtocol, Run

IN_THE_ID = ("model", "name")  # every id begins with it


def varying(parts: Collection[Run | AnyProtocol]) -> list[str]:
    """The fields in which these runs, or these protocols, differ."""
    fields = [{field.name for field in dataclasses.fields(part)} for part in parts]
    names = [field.name for field in dataclasses.fields(next(iter(parts)))] if parts else []
    return [
        name
        for name in names
        if name not in IN_THE_ID
        and all(name in known for known in fields)
        and len({getattr(part, name) for part in parts}) > 1
    ]


def protocol_text(protocols: Collection[AnyProtocol]) -> str:
    """protocols: p_a4fee54a (guidance 1.0), p_d7431ef7 (guidance 1.5); "" of one alone."""
    names = varying(protocols)
    texts = [
        f"{protocol.id} ({', '.join(f'{name} {getattr(protocol, name)}' for name in names)})"
        for protocol in protocols
    ]
    return f"protocols: {', '.join(texts)}" if names else ""
