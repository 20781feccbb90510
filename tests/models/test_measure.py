"""Networks without closed forms: what is measured of them is what the closed forms have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.models import CONDITIONINGS, MODELS, Setting
from harness.models.dit_rows import DITS, DiTModel
from harness.models.measure import measured
from harness.study import counts

SMALL = replace(DITS["mini-DiT-B/4"], depth=2)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_what_is_measured_is_the_closed_form(conditioning: str) -> None:
    setting = Setting((4, 16, 16), 10, 2, conditioning)
    found, kept = measured("small", Unknown(**vars(SMALL)), setting)
    assert found == SMALL.counts(setting)
    assert kept == pytest.approx(SMALL.kept_bytes(setting, "fp32"), rel=0.15)


class Unknown(DiTModel):
    """A network that knows nothing of itself."""

    def counts(self, setting: Setting) -> None:  # type: ignore[override]
        return None


def test_counts_are_kept_and_a_damaged_file_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(MODELS, "unknown", Unknown(**vars(SMALL)))
    setting = Setting((4, 16, 16), 10, 2)
    first = counts.counts("unknown", setting)
    assert first == SMALL.counts(setting)
    (path,) = tmp_path.rglob("*.json")
    for text in (path.read_text(), "{", "{}"):
        path.write_text(text)
        counts.counts.cache_clear()
        counts.measured.cache_clear()
        assert counts.counts("unknown", setting) == first
