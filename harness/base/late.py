"""Lazy imports: functions by name, whose module is imported when they are called. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Late:
    """Calls the function `name` of `module`; a row that holds one costs no import of torch."""

    module: str
    name: str

    def __call__(self, *args: Any, **fields: Any) -> Any:
        return getattr(import_module(self.module), self.name)(*args, **fields)
