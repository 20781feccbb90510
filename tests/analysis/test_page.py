"""The page in a real browser: as wide as a phone, as a screen, and on paper."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studies import digits, save_samples, steps_of

from analysis import files, report
from analysis.sections import Context

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    " --disable-background-networking --disable-component-update --enable-logging=stderr"
    " --allow-file-access-from-files"
).split()
WIDTHS = (390, 1400)
# A frame for each width, for a window of Chromium is never narrower than 500 px. Of each: what is
# wider than the place it has, the drawn figures, and the requests.
PROBE = """<body>%s<script>
const wide = e => e.scrollWidth - e.clientWidth;
const probe = frame => {
  const page = frame.contentDocument, view = frame.contentWindow, body = page.body;
  const right = e => e.getBoundingClientRect().right - page.documentElement.clientWidth;
  const shown = e => e.getBoundingClientRect().width > 0;
  const all = selector => [...body.querySelectorAll(selector)].filter(shown);
  return {
    width: view.innerWidth,
    body: Math.max(wide(page.documentElement), wide(body)),
    cut: all('figure, table, td, th, svg, p, li, dd, figcaption')
      .filter(e => right(e) > 1 || (e.tagName != 'svg' && wide(e) > 1))
      .map(e => e.tagName + ' ' + e.textContent.slice(0, 60)),
    figures: all('figure svg').map(e => [e.getBoundingClientRect().width,
      e.querySelector('g').getBBox().height,
      Math.min(...[...e.querySelectorAll('text')].map(t => t.getBoundingClientRect().height))]),
    requests: view.performance.getEntriesByType('resource').map(entry => entry.name)}};
addEventListener('load', () => {
  const frames = [...document.querySelectorAll('iframe')];
  document.body.dataset.probe = JSON.stringify(frames.map(probe))});
</script></body>"""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")


def chromium(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [CHROMIUM, *QUIET, profile, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of everything there is: log, samples, seeds, strange names, a long list."""
    out = tmp_path_factory.mktemp("page")
    table = digits(seeds=(0, 1))
    few = table["size"].isin(["S", "XL"]) & table["metric"].isin(["fid", "recall"])
    table, log = table[few].copy(), steps_of()
    table["device"] = "a device with a name of " + "many words " * 20
    context = Context(
        title="Does <b>quality</b> follow $compute$ – über alles?",
        abstract="A first paragraph.\n\nA second one, of " + "unbreakable" * 20,
        missing=[f"mini-DiT-H/{n}: never trained" for n in range(40)],
        deviations=[("batch_size", "256", "64")],
    )
    models = table["model"].unique().astype(str)
    images = np.full((len(models), 4, 16, 16, 1), 128, np.uint8)
    samples = save_samples(out / "samples.npz", images=images, model=models)
    log = log[log["model"].isin(models)]
    with pytest.MonkeyPatch.context() as patch:  # a browser shows no PDF and no PNG of a page
        patch.setattr(files, "METADATA", {"svg": files.METADATA["svg"]})
        return report.write("digits", table, log, samples, out, context)


@pytest.fixture(scope="module")
def probes(page: Path) -> dict[int, dict[str, Any]]:
    """What the browser measured at each width."""
    frames = "".join(f'<iframe src="index.html" width={w} height=900></iframe>' for w in WIDTHS)
    wrapper = page.with_name("probe.html")
    wrapper.write_text(PROBE % frames.replace("<iframe", "<iframe style='border:0'"))
    words = ("--window-size=2000,1000", "--virtual-time-budget=5000", "--dump-dom")
    ran = chromium(page.parent, *words, wrapper.as_uri())
    assert "CONSOLE" not in ran.stderr
    found = re.search(r'data-probe="([^"]*)"', ran.stdout)
    assert found, ran.stderr[-500:]
    return dict(zip(WIDTHS, json.loads(html.unescape(found[1])), strict=True))


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_and_nothing_is_requested(
    probes: dict[int, dict[str, Any]], width: int
) -> None:
    probe = probes[width]
    assert probe["width"] == width and probe["requests"] == []
    assert probe["body"] <= 0 and probe["cut"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_is_drawn_once_with_legible_text(
    probes: dict[int, dict[str, Any]], page: Path, width: int
) -> None:
    figures = probes[width]["figures"]
    assert len(figures) == len(list(page.parent.glob("figure_*.svg")))
    assert all(w > 300 and h > 100 for w, h, _ in figures)
    assert min(size for _, _, size in figures) >= 7  # px of the smallest text's line


def test_no_figure_is_split_over_two_sheets(page: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("needs pdftotext: apt-get install poppler-utils")
    marked = page.with_name("marked.html")
    text, count = re.subn(
        r"(<figure id[^>]*>)(.*?)(</figure>)",
        r"\1<i>@top</i>\2<i>@end</i>\3",
        page.read_text(),
        flags=re.DOTALL,
    )
    marked.write_text(text)
    pdf = page.with_name("page.pdf")
    chromium(page.parent, "--no-pdf-header-footer", f"--print-to-pdf={pdf}", marked.as_uri())
    command = ["pdftotext", "-layout", str(pdf), "-"]
    sheets = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")
    assert sum(sheet.count("@top") for sheet in sheets) == count >= 7
    assert all(sheet.count("@top") == sheet.count("@end") for sheet in sheets)


def test_every_link_leads_to_a_file_beside_the_page(page: Path) -> None:
    links = re.findall(r'href="([^"#][^"]*)"', page.read_text())
    files = {link for link in links if not link.startswith("data:")}
    assert {"table.csv", "statistics.csv", "figure_08.svg", "table_2.tex"} <= files
    assert all((page.parent / link).is_file() for link in files)
