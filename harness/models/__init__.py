"""Networks: MODELS, every model by its name; a row answers for itself."""

from __future__ import annotations

from harness.models.dit_rows import CONDITIONINGS, DITS
from harness.models.rows import Counts, Model, Setting

__all__ = ["CONDITIONINGS", "MODELS", "Counts", "Model", "Setting"]

# A table: another family is its file and its rows.
MODELS: dict[str, Model] = {**DITS}
