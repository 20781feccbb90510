"""The committed pages of results/measured: pages of `harness report`, without links to files.

`python docs/measured_page.py results/report/digits_seeds/index.html` writes digits_seeds.html
there: its figures and tables are in it, and the files that a report links to are not beside it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

MEASURED = Path(__file__).parents[1] / "results" / "measured"
LINKS = re.compile(r'<span class="links">.*?</span>|<ul class="links">.*?</ul>', re.DOTALL)


def alone(page: str) -> str:
    """Returns a page without its links to files beside it."""
    return LINKS.sub("", page)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        (MEASURED / f"{path.parent.name}.html").write_text(alone(path.read_text()))
