"""Makes what README shows of the official board: two pictures of its pages and the table of its headlines.

    python -m tests.browser.readme

builds the site of `leaderboard/results`, writes `docs/images/overview.png` and `docs/images/layers.png`, and puts the
table between the two marks in README.md.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from leaderboard.build import OFFICIAL, SUBMISSIONS, build_site
from leaderboard.comparing import compare
from leaderboard.headline import headline_table
from leaderboard.load import index_of, read_whole
from tests.browser.harness import DESKTOP, Visitor, Watch, chromium

ROOT = Path(__file__).parents[2]

BEGIN, END = "<!-- headlines: python -m tests.browser.readme -->\n", "<!-- end of headlines -->\n"
# The board whose layers README shows.
LAYERS = "layers/classification-fashion-mnist-resnet20-w3a3-ptq-all-layers-*.html"
HEIGHTS = {"overview": 1250, "layers": 1480}


def readme_with(table: str, readme: str) -> str:
    """Return README's text with this table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def table_of(results: Path) -> str:
    """Return the table of headlines of a folder of records."""
    return headline_table(compare(read_whole(results, index_of(results).entries)[0]))


def main() -> int:
    """Write the pictures and the table."""
    readme, images = ROOT / "README.md", ROOT / "docs" / "images"
    images.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        site = build_site(OFFICIAL, Path(folder) / "site", submissions=SUBMISSIONS).parent.resolve()
        pages = {"overview": "index.html", "layers": next(site.glob(LAYERS)).relative_to(site).as_posix()}
        watch = Watch(site)
        with chromium() as browser:
            visitor = Visitor(browser, site, watch)
            for name, path in pages.items():
                page = visitor.open(path, scheme="light", width=DESKTOP)
                page.set_viewport_size({"width": DESKTOP, "height": HEIGHTS[name]})
                page.screenshot(path=images / f"{name}.png")
                visitor.close()
    readme.write_text(readme_with(table_of(OFFICIAL), readme.read_text(encoding="utf-8")), encoding="utf-8")
    print("\n".join([str(images), str(readme), *watch.problems]))
    return 1 if watch.problems else 0


if __name__ == "__main__":
    sys.exit(main())
