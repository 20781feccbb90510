"""The pages of a user's own parts, executed as they stand, but smaller."""

from __future__ import annotations

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, run_verb
from PIL import Image

pytestmark = pytest.mark.usefixtures("no_rows", "figure_8_alone")
SMALLER = {
    "docs/own_images.md": {
        "photos64": "photos16",
        "channels=3, size=64": "channels=3, size=16",
        '["DiT-S/8", "DiT-S/4", "DiT-B/4"]': '"mini-DiT-S/8"',
        "batch_size=64": "batch_size=8",
        "(50_000, 100_000)": "(2,)",
        "images=10_000": 'images=64, sampling_steps=2, features="coarse"',
    },
    "docs/own_network.md": {
        "(500, 1000)": "(2, 4)",
        "images=1000": "images=64",
        "sampling_steps=50": "sampling_steps=2",
        "batch_size=64": "batch_size=8",
    },
}


COARSE = """
from harness.extractors import EXTRACTORS, Extractor


def coarse(weights):
    import torch

    class Coarse(torch.nn.Module):
        def forward(self, images):
            return (torch.nn.functional.adaptive_avg_pool2d(images.float(), 4).flatten(1),)

    return Coarse()


EXTRACTORS["coarse"] = Extractor(layers={"pool": 48}, channels=3, gmacs=0.0, build=coarse)
"""


def blocks(page: str, kind: str) -> list[str]:
    """The code blocks of a page, made smaller."""
    text = (ROOT / page).read_text()
    for before, after in SMALLER.get(page, {}).items():
        assert before in text, f"{page} no longer says {before}"
        text = text.replace(before, after)
    return re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL)


def write_files(page: str, folder: Path) -> None:
    """Writes each block that names its file in the first line."""
    for block in (*blocks(page, "python"), *blocks(page, "toml")):
        if found := re.match(r"# (\S+)\n", block):
            (folder / found[1]).write_text(block)


def photographs(folder: Path, count: int) -> None:
    """Noisy pictures of odd sizes in four class folders."""
    random = np.random.default_rng(0)
    for i in range(count):
        height, width = random.integers(18, 40, 2)
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        path = folder / f"class{i % 4}" / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("labels", [True, False])
def test_from_a_folder_of_images_to_the_report(
    labels: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With an extractor of 48 numbers: Inception takes minutes of a CPU."""
    monkeypatch.chdir(tmp_path)
    page = "docs/own_images.md"
    write_files(page, tmp_path)
    with (tmp_path / "my_rows.py").open("a") as file:
        file.write(COARSE)
    if not labels:
        rows = tmp_path / "my_rows.py"
        rows.write_text(rows.read_text().replace("classes=4", "classes=0"))
    photographs(tmp_path / "photos", 200)
    for line in blocks(page, "sh")[0].splitlines():
        words = shlex.split(line)[1:]
        extractor = ["--extractor", "coarse"] * (words[0] == "reference")
        status, out, err = run_verb(capsys, *words, *extractor)
        assert status == 0, (line, out, err)
    table = list(csv.DictReader((tmp_path / "results" / "photos.csv").open()))
    assert {row["metric"] for row in table} >= {"fid", "precision", "recall"}
    assert {row["data"] for row in table} == {"photos16"}
    (report,) = tmp_path.rglob("*.html")
    assert "My photographs" in report.read_text()


def test_the_network_of_the_page_is_the_tested_one() -> None:
    (rows, _) = blocks("docs/own_network.md", "python")
    tested = (ROOT / "tests" / "own_network.py").read_text()
    assert rows.partition("\n")[2].strip() in tested


@pytest.mark.parametrize("page", ["docs/own_network.md", "docs/own_objective.md"])
def test_a_part_of_ones_own_is_trained_and_scored(
    page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(page, tmp_path)
    if not (tmp_path / "mine.py").exists():
        write_files("docs/own_network.md", tmp_path)
        write_files(page, tmp_path)
        text = (tmp_path / "mine.py").read_text()
        text = text.replace('["ConvNet-S", "ConvNet-B", "digit-DiT-S/4"]', '"digit-DiT-S/4"')
        text = text.replace("digits8", 'digits8", objective="data').replace(
            "sampling_steps", 'sampler="euler", sampling_steps'
        )
        (tmp_path / "mine.py").write_text(text)
    store = tmp_path / "store"
    status, out, err = run_verb(capsys, "run", tmp_path / "mine.py", "--store", store)
    assert status == 0, (out, err)
    assert all(path.read_text() for path in store.glob("runs/*/evals/*/*.json"))
    assert len(list(store.glob("runs/*/evals/*/*.json"))) in (2, 6)
