"""The committed page of the seeds study, results/measured/digits_seeds.html.

`python docs/digits_page.py` after `harness run` and `collect digits_seeds`: the
page of `harness report`, whose figures and tables are in it, without the links to files beside it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from analysis.log import load_log
from analysis.report import write
from analysis.sections import Context
from analysis.table import load
from harness.cli.report import story
from harness.study.sweep_file import docstring

STUDY = "digits_seeds"
ROOT = Path(__file__).parents[1]
LINKS = re.compile(r'<span class="links">.*?</span>|<ul class="links">.*?</ul>', re.DOTALL)


def alone(page: str) -> str:
    """Returns a page without its links to files beside it."""
    return LINKS.sub("", page)


def main(results: Path) -> None:
    table = load(results / f"{STUDY}.csv")
    log = load_log(results / f"{STUDY}_log.csv")
    samples = results / f"{STUDY}_samples.npz"
    title, abstract = story(docstring(STUDY))
    with TemporaryDirectory() as folder:
        page = write(STUDY, table, log, samples, Path(folder), Context(title, abstract))
        text = alone(page.read_text())
    (ROOT / "results" / "measured" / f"{STUDY}.html").write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results")
