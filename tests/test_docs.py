"""The documents are true: commands parse, links resolve, ids are real, examples run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from helpers import ROOT, run_verb

from harness.cli.main import parser
from harness.data import DATASETS, Data
from harness.models import Setting
from harness.models.dit_rows import DiTModel
from harness.spec import Protocol, Run, Sweep
from harness.study.sweep_file import SWEEPS, load_sweep

sys.path.insert(0, str(ROOT / "docs"))
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "results").glob("*.md"),
    *(ROOT / "tests").glob("*/*.md"),
]
IDS = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[str]:
    """What follows `harness` in every shell line, and in every inline command that is whole."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    inline = re.findall(r"`((?:\.venv/bin/)?harness [a-z]+(?: [^`]*)?)`", page.read_text())
    found = [re.search(r"(?:^|/| )harness ((?:[a-z]+)\b.*)", line) for line in [*lines, *inline]]
    return [match[1].partition(" #")[0].partition(" && ")[0] for match in found if match]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=str)
def test_every_command_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(page):
        words = shlex.split(command)
        if len(words) == 1 or any("…" in word or word == "..." for word in words):
            continue  # a verb's name alone, or a pattern
        try:
            parser().parse_args(words)
        except SystemExit:
            pytest.fail(f"harness {command}: {capsys.readouterr().err}")


@IDS
def test_every_link_resolves(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [link.partition("#")[0] for link in links if not link.startswith(("http", "#"))]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


def test_every_id_is_what_the_code_gives() -> None:
    sweeps = [load_sweep(path.stem) for path in SWEEPS.glob("[a-z]*.py")]
    known = {run.id for sweep in sweeps for run in sweep.runs}
    known |= {protocol.id for sweep in sweeps for protocol in sweep.protocols}
    known |= {protocol.sampled for sweep in sweeps for protocol in sweep.sampling}
    shown = {
        name: page.name
        for page in PAGES
        for name in re.findall(r"\b[A-Za-z][\w-]*_[0-9a-f]{8}\b", page.read_text())
    }
    assert {name: page for name, page in shown.items() if name not in known} == {}


def test_the_architecture_page_names_every_file() -> None:
    import architecture

    page = (ROOT / "docs" / "architecture.md").read_text()
    assert page == architecture.page(), "run python docs/architecture.py"
    assert all(architecture.summary(path) for path in (ROOT / "harness").rglob("*.py"))


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100


@pytest.mark.parametrize(
    "name", ["README.md", "docs/tutorial.md", "docs/scores.md", "CONTRIBUTING.md"]
)
def test_sweeps_in_the_docs_plan(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweeps = [block for block in blocks(ROOT / name, "python") if "SWEEP = " in block]
    assert sweeps
    for block in sweeps:
        (tmp_path / "mine.py").write_text(block)
        assert run_verb(capsys, "plan", tmp_path / "mine.py", "--store", tmp_path / "store")[0] == 0


def example(heading: str) -> str:
    """The python block under **heading** in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition(f"**{heading}**")[2]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]


def test_the_model_of_contributing_is_counted_as_it_is_built() -> None:
    import torch

    (row,) = eval(f"[{example('Add a size')}]")
    size, depth, width, heads = row
    model = DiTModel("DiT", size, patch=8, depth=depth, width=width, heads=heads)
    setting = Setting(DATASETS["imagenet256"].shape, 1000, 2)
    with torch.device("meta"):
        net = model.build(setting)
    assert sum(p.numel() for p in net.parameters()) == model.counts(setting).parameters


def test_the_dataset_of_contributing_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = eval(f"{{{example('Add a dataset')}}}", {"Data": Data})
    for name, row in rows.items():
        monkeypatch.setitem(DATASETS, name, row)
        sweep = Sweep(
            name="x",
            runs=(Run(model="DiT-S/2", data=name),),
            steps=(1,),
            protocols=(Protocol(name="p"),),
        )
        assert row.latent and sweep.runs[0].data == name
