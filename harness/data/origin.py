"""Origin: which images a run is trained on, as its data.json keeps it. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from harness.base.errors import UserError
from harness.base.files import read_json
from harness.base.validation import problems


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What identifies training images; the last three are of latents alone."""

    images: int
    digest: str  # of the source's names and labels
    vae: str | None = None  # digest of the encoder's weights
    scale: float | None = None
    crop: str | None = None

    def to_json(self) -> dict[str, object]:
        """The fields that are known."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def differences(self, other: Origin) -> list[str]:
        """The fields that both know and that differ; older files know the first two alone."""
        mine, its = self.to_json(), other.to_json()
        return [name for name in mine if name in its and mine[name] != its[name]]


def read_origin(path: Path) -> Origin:
    """Reads a data.json.

    Raises:
        UserError: it is damaged, or was written by a newer version.
    """
    fields = read_json(path)
    known = {field.name for field in dataclasses.fields(Origin)}
    wrong = sorted(fields.keys() - known) + sorted({"images", "digest"} - fields.keys())
    wrong = [f"the fields {', '.join(wrong)}"] if wrong else problems(Origin(**fields))
    if wrong:
        raise UserError(
            f"{path} does not say which images the run is trained on ({'; '.join(wrong)}): if they"
            " are those of the cluster file, delete it and run the same command again"
        )
    return Origin(**fields)
